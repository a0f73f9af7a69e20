//! The history: one immutable entry for every mutation, naming whoever it was done as and whoever did it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::article::{Article, ArticleAction, WorkflowStep};
use super::client::{Audience, Client, ClientId, ClientTerms};
use super::error::Reason;
use super::identity::{By, Ctx};
use super::ids::{ArticleId, EntryId, SessionId, UserId};
use super::impersonation::{Bounds, EndCause, Mode};
use super::policy::{PolicyTerms, StoredPolicy};
use super::session::{Exchange, TokenTerms};
use super::text::{Comment, Ticket};
use super::user::{User, UserRef};
use super::{Time, impersonation, string_enum, text};

string_enum! {
    /// Where a mutation came from.
    pub enum Origin {
        Api => "api",
        Cli => "cli",
        System => "system",
    }
}

string_enum! {
    /// What kind of thing an entry is about.
    pub enum ResourceType {
        Article => "article",
        User => "user",
        Session => "session",
        Impersonation => "impersonation",
        Key => "key",
        Client => "client",
        Policy => "policy",
    }
}

string_enum! {
    /// What was done: `<resource>.<past tense>`.
    pub enum EntryAction {
        ArticleCreated => "article.created",
        ArticleUpdated => "article.updated",
        ArticleDeleted => "article.deleted",
        ArticleSubmitted => "article.submitted",
        ArticleEditorAssigned => "article.editor_assigned",
        ArticleReviewStarted => "article.review_started",
        ArticleRevisionRequested => "article.revision_requested",
        ArticleAccepted => "article.accepted",
        ArticleRejected => "article.rejected",
        ArticleDecisionReverted => "article.decision_reverted",
        ArticlePublished => "article.published",
        ArticleWithdrawn => "article.withdrawn",
        /// What was done under an impersonation was undone.
        ArticleChangeUndone => "article.change_undone",
        /// That an article was deleted under an impersonation was undone.
        ArticleRestored => "article.restored",
        UserCreated => "user.created",
        UserUpdated => "user.updated",
        UserPasswordChanged => "user.password_changed",
        UserSetupTokenIssued => "user.setup_token_issued",
        SessionStarted => "session.started",
        SessionExchanged => "session.exchanged",
        SessionEnded => "session.ended",
        SessionRefused => "session.refused",
        ImpersonationStarted => "impersonation.started",
        ImpersonationEnded => "impersonation.ended",
        ImpersonationRefused => "impersonation.refused",
        KeyCreated => "key.created",
        KeyImported => "key.imported",
        KeyRetired => "key.retired",
        ClientCreated => "client.created",
        ClientUpdated => "client.updated",
        ClientSecretRotated => "client.secret_rotated",
        PolicyCreated => "policy.created",
        PolicyUpdated => "policy.updated",
        PolicyFrozen => "policy.frozen",
        PolicyUnfrozen => "policy.unfrozen",
    }
}

impl EntryAction {
    /// The action of a step of the workflow.
    pub const fn of_step(step: WorkflowStep) -> Self {
        match step {
            WorkflowStep::Submit => Self::ArticleSubmitted,
            WorkflowStep::AssignEditor => Self::ArticleEditorAssigned,
            WorkflowStep::StartReview => Self::ArticleReviewStarted,
            WorkflowStep::RequestRevision => Self::ArticleRevisionRequested,
            WorkflowStep::Accept => Self::ArticleAccepted,
            WorkflowStep::Reject => Self::ArticleRejected,
            WorkflowStep::RevertDecision => Self::ArticleDecisionReverted,
            WorkflowStep::Publish => Self::ArticlePublished,
            WorkflowStep::Withdraw => Self::ArticleWithdrawn,
        }
    }

    /// The entry that an article's action leaves.
    pub const fn of_article(action: ArticleAction) -> Self {
        match action.step() {
            Some(step) => Self::of_step(step),
            None => match action {
                ArticleAction::Delete => Self::ArticleDeleted,
                _ => Self::ArticleUpdated,
            },
        }
    }
}

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub r#type: ResourceType,
    /// A UUID; for a key, its `kid`; for the first-party client, `actas`; for the policy, `policy`.
    pub id: String,
    /// The version that an article's or a user's row has after the change; none for everything else.
    pub version: Option<i64>,
}

/// One field before and after.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    pub from: Value,
    pub to: Value,
}

/// The member of an entry's changes that names the entry which it undoes.
pub const UNDOES: &str = "undoes";

/// What the policy is called as a resource.
const POLICY_ID: &str = "policy";

/// How a field of something is read for the history.
type Read<T> = fn(&T) -> Value;

/// What changed, by the field's name.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Changes(pub BTreeMap<String, Change>);

impl Changes {
    /// Nothing to tell before and after.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a field, unless it stays as it was.
    #[must_use]
    pub fn field(mut self, name: &str, from: impl Into<Value>, to: impl Into<Value>) -> Self {
        let (from, to) = (from.into(), to.into());
        if from != to {
            self.0.insert(name.to_owned(), Change { from, to });
        }
        self
    }

    /// Adds a field that begins here.
    #[must_use]
    pub fn set(self, name: &str, to: impl Into<Value>) -> Self {
        self.field(name, Value::Null, to)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How an article differs before and after; `None` where it does not exist.
    pub fn of_article(before: Option<&Article>, after: Option<&Article>) -> Self {
        let value = |article: Option<&Article>, read: Read<Article>| article.map_or(Value::Null, read);
        let fields: [(&str, Read<Article>); 6] = [
            ("title", |article| article.title.as_str().into()),
            ("abstract", |article| article.r#abstract.as_str().into()),
            ("body", |article| article.body.as_str().into()),
            ("status", |article| article.status.as_str().into()),
            ("author_id", |article| article.author.id.to_string().into()),
            ("editor_id", |article| article.editor.as_ref().map(|editor| editor.id.to_string()).into()),
        ];
        fields.iter().fold(Self::none(), |changes, (name, read)| changes.field(name, value(before, *read), value(after, *read)))
    }

    /// How a client differs before and after; `None` where it does not exist yet. Says nothing of its secret.
    pub fn of_client(before: Option<&ClientTerms>, after: &ClientTerms) -> Self {
        let value = |terms: Option<&ClientTerms>, read: Read<ClientTerms>| terms.map_or(Value::Null, read);
        let fields: [(&str, Read<ClientTerms>); 6] = [
            ("name", |terms| terms.name.as_str().into()),
            ("status", |terms| terms.status.as_str().into()),
            ("grants", |terms| terms.grants.iter().map(|grant| grant.as_str()).collect()),
            ("scope", |terms| terms.scope.to_string().into()),
            ("audiences", |terms| terms.audiences.iter().map(Audience::as_str).collect()),
            ("presenters", |terms| terms.presenters.iter().map(ToString::to_string).collect()),
        ];
        fields.iter().fold(Self::none(), |changes, (name, read)| changes.field(name, value(before, *read), value(Some(after), *read)))
    }

    /// How the policy differs before and after; `None` where there is none yet.
    fn of_policy(before: Option<&PolicyTerms>, after: &PolicyTerms) -> Self {
        let value = |terms: Option<&PolicyTerms>| terms.and_then(|terms| serde_json::to_value(terms).ok()).unwrap_or(Value::Null);
        let (before, after) = (value(before), value(Some(after)));
        let fields = after.as_object().into_iter().flatten();
        fields.fold(Self::none(), |changes, (name, to)| changes.field(name, before.get(name).cloned().unwrap_or(Value::Null), to.clone()))
    }

    /// How far an impersonation goes, where it was started for less than everything.
    fn of_bounds(self, bounds: &Bounds) -> Self {
        let permissions: Option<Value> =
            bounds.permissions.map(|scope| scope.permissions().map(|permission| permission.as_str()).collect());
        let resources: Option<Value> = bounds.resources().map(|resources| resources.into_iter().collect());
        self.set("permissions", permissions).set("resources", resources)
    }

    /// What the token endpoint laid down about a token.
    fn of_token(self, terms: &TokenTerms, expires_at: Time) -> Self {
        self.set("client_id", terms.client.to_string())
            .set("scope", terms.scope.to_string())
            .set("audience", terms.audiences.iter().map(Audience::as_str).collect::<Value>())
            .set("expires_at", expires_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
    }

    /// How a user differs before and after; `None` where it does not exist yet.
    pub fn of_user(before: Option<&User>, after: &User) -> Self {
        let value = |user: Option<&User>, read: Read<User>| user.map_or(Value::Null, read);
        let fields: [(&str, Read<User>); 4] = [
            ("email", |user| user.email.as_str().into()),
            ("display_name", |user| user.display_name.as_str().into()),
            ("role", |user| user.role.as_str().into()),
            ("status", |user| user.status.as_str().into()),
        ];
        fields.iter().fold(Self::none(), |changes, (name, read)| changes.field(name, value(before, *read), value(Some(after), *read)))
    }
}

/// An entry about to be written, in the same transaction as its change.
#[derive(Debug, Clone)]
pub struct NewEntry {
    pub id: EntryId,
    pub occurred_at: Time,
    pub origin: Origin,
    pub action: EntryAction,
    pub resource: Resource,
    pub subject: Option<UserRef>,
    pub actor: Option<UserRef>,
    pub impersonation_id: Option<SessionId>,
    pub note: Option<String>,
    pub changes: Changes,
    pub request_id: Option<String>,
}

/// An entry as it stands in the history, with both names as they were.
#[derive(Debug, Clone)]
pub struct Entry {
    pub seq: i64,
    pub written: NewEntry,
    /// How often it happened in that minute; only refusals count.
    pub count: Option<i64>,
}

impl NewEntry {
    fn new(ctx: &Ctx, action: EntryAction, resource_type: ResourceType, id: String, version: Option<i64>, changes: Changes) -> Self {
        let (origin, subject, actor, impersonation_id, note) = match &ctx.by {
            By::Request(identity) => {
                let subject = &identity.subject().user;
                let actor = identity.actor().map(|actor| &actor.user);
                let note = actor.map(|actor| impersonation::note(subject, actor));
                (Origin::Api, Some(subject.clone()), actor.cloned(), identity.impersonation_id(), note)
            }
            By::Client(_) => (Origin::Api, None, None, None, None),
            By::Credential(user) => (Origin::Api, Some(user.clone()), None, None, None),
            By::Anonymous => (Origin::Api, None, None, None, None),
            By::CommandLine(why) => (Origin::Cli, None, None, None, Some((*why).to_owned())),
            By::System(why) => (Origin::System, None, None, None, Some((*why).to_owned())),
        };
        Self {
            id: EntryId::new(ctx.now),
            occurred_at: ctx.now,
            origin,
            action,
            resource: Resource { r#type: resource_type, id, version },
            subject,
            actor,
            impersonation_id,
            note,
            changes,
            request_id: ctx.request_id.clone(),
        }
    }

    /// An article came to be.
    pub fn article_created(ctx: &Ctx, article: &Article) -> Self {
        Self::article(ctx, EntryAction::ArticleCreated, article.id, article.version, Changes::of_article(None, Some(article)))
    }

    /// An article changed by `action`; `comment` is the remark on a step.
    pub fn article_changed(ctx: &Ctx, action: ArticleAction, before: &Article, after: &Article, comment: Option<&Comment>) -> Self {
        let mut changes = Changes::of_article(Some(before), Some(after));
        if let Some(comment) = comment {
            changes = changes.set("comment", comment.as_str());
        }
        Self::article(ctx, EntryAction::of_article(action), after.id, after.version, changes)
    }

    /// An article is about to go; the entry holds all that it was, under the version after its last.
    pub fn article_deleted(ctx: &Ctx, article: &Article) -> Self {
        Self::article(ctx, EntryAction::ArticleDeleted, article.id, article.version + 1, Changes::of_article(Some(article), None))
    }

    /// What `undone` tells of was undone, and the article is `after` now.
    pub fn article_change_undone(ctx: &Ctx, undone: &Self, before: &Article, after: &Article) -> Self {
        let changes = Changes::of_article(Some(before), Some(after));
        Self::article(ctx, EntryAction::ArticleChangeUndone, after.id, after.version, changes).undoing(undone)
    }

    /// That an article was created is undone: it is about to go.
    pub fn article_creation_undone(ctx: &Ctx, undone: &Self, article: &Article) -> Self {
        Self::article_deleted(ctx, article).undoing(undone)
    }

    /// That an article was deleted is undone: it comes back, under the version after its deletion's.
    pub fn article_restored(ctx: &Ctx, undone: &Self, article: &Article) -> Self {
        let changes = Changes::of_article(None, Some(article));
        Self::article(ctx, EntryAction::ArticleRestored, article.id, article.version, changes).undoing(undone)
    }

    /// Names the entry that this one undoes, and whose change that was.
    fn undoing(mut self, undone: &Self) -> Self {
        self.changes = self.changes.set(UNDOES, undone.id.to_string());
        let by = undone.note.clone().or_else(|| undone.subject.as_ref().map(|subject| subject.display_name.to_string()));
        self.note = Some(format!("undoes `{}` by {}", undone.action, by.as_deref().unwrap_or("nobody")));
        self
    }

    fn article(ctx: &Ctx, action: EntryAction, id: ArticleId, version: i64, changes: Changes) -> Self {
        Self::new(ctx, action, ResourceType::Article, id.to_string(), Some(version), changes)
    }

    /// A user's account came to be.
    pub fn user_created(ctx: &Ctx, user: &User) -> Self {
        let changes = Changes::of_user(None, user);
        Self::new(ctx, EntryAction::UserCreated, ResourceType::User, user.id.to_string(), Some(user.version), changes)
    }

    /// A user's account changed.
    pub fn user_updated(ctx: &Ctx, before: &User, after: &User) -> Self {
        let changes = Changes::of_user(Some(before), after);
        Self::new(ctx, EntryAction::UserUpdated, ResourceType::User, after.id.to_string(), Some(after.version), changes)
    }

    /// A password was set. Says nothing of either.
    pub fn user_password_changed(ctx: &Ctx, user: UserId) -> Self {
        Self::new(ctx, EntryAction::UserPasswordChanged, ResourceType::User, user.to_string(), None, Changes::none())
    }

    /// A one-time token to set a password was handed out; the old password is void.
    pub fn user_setup_token_issued(ctx: &Ctx, user: UserId) -> Self {
        Self::new(ctx, EntryAction::UserSetupTokenIssued, ResourceType::User, user.to_string(), None, Changes::none())
    }

    /// A login opened a session.
    pub fn session_started(ctx: &Ctx, session: SessionId) -> Self {
        Self::new(ctx, EntryAction::SessionStarted, ResourceType::Session, session.to_string(), None, Changes::none())
    }

    /// A token was exchanged for a narrower one.
    pub fn session_exchanged(ctx: &Ctx, exchange: &Exchange, from: SessionId) -> Self {
        let changes = Changes::none().set("from_session_id", from.to_string()).of_token(&exchange.terms, exchange.expires_at);
        Self::new(ctx, EntryAction::SessionExchanged, ResourceType::Session, exchange.id.to_string(), None, changes)
    }

    /// A client got a token for itself.
    pub fn client_session_started(ctx: &Ctx, session: SessionId, terms: &TokenTerms, expires_at: Time) -> Self {
        let changes = Changes::none().of_token(terms, expires_at);
        Self::new(ctx, EntryAction::SessionStarted, ResourceType::Session, session.to_string(), None, changes)
    }

    /// A narrower token's session, or a client's own, was ended by its client.
    pub fn token_session_ended(ctx: &Ctx, session: SessionId, client: ClientId, cause: EndCause) -> Self {
        let changes = Changes::none().set("cause", cause.as_str()).set("client_id", client.to_string());
        Self::new(ctx, EntryAction::SessionEnded, ResourceType::Session, session.to_string(), None, changes)
    }

    /// A client came to be.
    pub fn client_created(ctx: &Ctx, client: &Client) -> Self {
        let changes = Changes::of_client(None, &client.terms);
        Self::new(ctx, EntryAction::ClientCreated, ResourceType::Client, client.id.to_string(), None, changes)
    }

    /// A client changed.
    pub fn client_updated(ctx: &Ctx, before: &Client, after: &Client) -> Self {
        let changes = Changes::of_client(Some(&before.terms), &after.terms);
        Self::new(ctx, EntryAction::ClientUpdated, ResourceType::Client, after.id.to_string(), None, changes)
    }

    /// A client got a new secret. Says nothing of either; `old_counts_until` is when the old one's time is over, where that is later.
    pub fn client_secret_rotated(ctx: &Ctx, client: ClientId, old_counts_until: Option<Time>) -> Self {
        let until = old_counts_until.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
        let changes = Changes::none().set("old_secret_counts_until", until);
        Self::new(ctx, EntryAction::ClientSecretRotated, ResourceType::Client, client.to_string(), None, changes)
    }

    /// An own session ended.
    pub fn session_ended(ctx: &Ctx, session: SessionId, user: UserId, cause: EndCause) -> Self {
        let changes = Changes::none().set("cause", cause.as_str()).set("user_id", user.to_string());
        Self::new(ctx, EntryAction::SessionEnded, ResourceType::Session, session.to_string(), None, changes)
    }

    /// A known account's limit of failed logins tripped. Names the account, not as the one who did it.
    pub fn session_refused(ctx: &Ctx, user: UserId, client_ip: &str) -> Self {
        let changes = Changes::none().set("client_ip", client_ip);
        Self::new(ctx, EntryAction::SessionRefused, ResourceType::User, user.to_string(), None, changes)
    }

    /// An administrator began to act as `subject`.
    pub fn impersonation_started(ctx: &Ctx, id: SessionId, subject: &UserRef, start: &Started<'_>) -> Self {
        let changes = Changes::none()
            .set("subject_id", subject.id.to_string())
            .set("subject", subject.display_name.as_str())
            .set("reason", start.reason.map(text::Reason::as_str))
            .set("ticket", start.ticket.map(Ticket::as_str))
            .set("mode", start.mode.as_str())
            .of_bounds(start.bounds);
        let changes = match start.terms {
            Some(terms) => changes.of_token(terms, start.expires_at),
            None => changes.set("expires_at", start.expires_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
        };
        Self::new(ctx, EntryAction::ImpersonationStarted, ResourceType::Impersonation, id.to_string(), None, changes)
    }

    /// An impersonation ended.
    pub fn impersonation_ended(ctx: &Ctx, id: SessionId, cause: EndCause) -> Self {
        let changes = Changes::none().set("cause", cause.as_str());
        Self::new(ctx, EntryAction::ImpersonationEnded, ResourceType::Impersonation, id.to_string(), None, changes)
    }

    /// Someone was refused to act as `subject`.
    pub fn impersonation_refused(ctx: &Ctx, subject: UserId, reasons: &[Reason]) -> Self {
        let codes: Vec<&str> = reasons.iter().map(|reason| reason.code.as_str()).collect();
        let changes = Changes::none().set("reasons", codes);
        Self::new(ctx, EntryAction::ImpersonationRefused, ResourceType::User, subject.to_string(), None, changes)
    }

    /// The policy came to be.
    pub fn policy_created(ctx: &Ctx, terms: &PolicyTerms) -> Self {
        Self::policy(ctx, EntryAction::PolicyCreated, Changes::of_policy(None, terms))
    }

    /// The policy changed.
    pub fn policy_updated(ctx: &Ctx, before: &PolicyTerms, after: &PolicyTerms) -> Self {
        Self::policy(ctx, EntryAction::PolicyUpdated, Changes::of_policy(Some(before), after))
    }

    /// Impersonation was frozen.
    pub fn policy_frozen(ctx: &Ctx, reason: &text::Reason) -> Self {
        Self::policy(ctx, EntryAction::PolicyFrozen, Changes::none().set("freeze", reason.as_str()))
    }

    /// Impersonation was set free again.
    pub fn policy_unfrozen(ctx: &Ctx, before: &StoredPolicy, why: Option<&text::Reason>) -> Self {
        let frozen = before.freeze.as_ref().map(|freeze| freeze.reason.as_str());
        let changes = Changes::none().field("freeze", frozen, Value::Null).set("reason", why.map(text::Reason::as_str));
        Self::policy(ctx, EntryAction::PolicyUnfrozen, changes)
    }

    fn policy(ctx: &Ctx, action: EntryAction, changes: Changes) -> Self {
        Self::new(ctx, action, ResourceType::Policy, POLICY_ID.to_owned(), None, changes)
    }

    /// A key came to be.
    pub fn key_created(ctx: &Ctx, kid: &str, algorithm: &str) -> Self {
        let changes = Changes::none().set("algorithm", algorithm);
        Self::new(ctx, EntryAction::KeyCreated, ResourceType::Key, kid.to_owned(), None, changes)
    }

    /// A key that was made elsewhere was taken over.
    pub fn key_imported(ctx: &Ctx, kid: &str, algorithm: &str) -> Self {
        let changes = Changes::none().set("algorithm", algorithm);
        Self::new(ctx, EntryAction::KeyImported, ResourceType::Key, kid.to_owned(), None, changes)
    }

    /// A key counts no more.
    pub fn key_retired(ctx: &Ctx, kid: &str) -> Self {
        Self::new(ctx, EntryAction::KeyRetired, ResourceType::Key, kid.to_owned(), None, Changes::none())
    }
}

/// What an impersonation was started with, for its entry.
#[derive(Debug)]
pub struct Started<'a> {
    pub reason: Option<&'a text::Reason>,
    pub ticket: Option<&'a Ticket>,
    pub mode: Mode,
    pub bounds: &'a Bounds,
    pub expires_at: Time,
    /// What the token endpoint laid down, where a client started it.
    pub terms: Option<&'a TokenTerms>,
}

/// Which entries a listing shows. All given conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    pub subject: Option<UserId>,
    pub actor: Option<UserId>,
    /// Under impersonation, or not.
    pub impersonated: Option<bool>,
    pub impersonation: Option<SessionId>,
    pub resource_type: Option<ResourceType>,
    pub resource_id: Option<String>,
    pub action: Option<EntryAction>,
    /// Inclusive.
    pub from: Option<Time>,
    /// Exclusive.
    pub to: Option<Time>,
}
