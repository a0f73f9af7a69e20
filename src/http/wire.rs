//! The shapes that several routes answer with. A field that is always there is required, and says `null` where it has nothing to say.

use chrono::{Datelike as _, SecondsFormat, Timelike as _};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::problem::ReasonDocument;
use crate::domain;
use crate::domain::Time;
use crate::domain::article::{ArticleAction, ArticleStatus};
use crate::domain::client::{Audience, ClientGrant, ClientId, ClientStatus};
use crate::domain::error::Reason;
use crate::domain::history::{Changes, EntryAction, Origin, ResourceType};
use crate::domain::identity::Identity;
use crate::domain::ids::{ArticleId, EntryId, SessionId, UserId};
use crate::domain::impersonation::{Bounds, EndCause, ImpersonationStatus, Mode, Withheld};
use crate::domain::policy::RefusedOperation;
use crate::domain::role::{Permission, Role};
use crate::domain::session::Kind;
use crate::domain::text::{Abstract, Body, DisplayName, Email, Title};
use crate::domain::undo::{ConflictCode, UndoOutcome};
use crate::domain::user::UserStatus;
use crate::service::{clients, grants, impersonations, undo};

/// An instant as the wire has it: RFC 3339 in UTC, with microseconds and `Z`.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2026-11-23T09:15:00.000000Z"))]
pub struct Timestamp(pub Time);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        match write_instant(&self.0, &mut text).and_then(|()| str::from_utf8(&text).ok()) {
            Some(text) => serializer.serialize_str(text),
            None => serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true)),
        }
    }
}

/// Writes what `to_rfc3339_opts` does, in a third of its time, over the digits of `text`. Nothing for years of other than four digits, and within leap
/// seconds, which have a form of their own.
fn write_instant(instant: &Time, text: &mut [u8; 27]) -> Option<()> {
    let instant = instant.naive_utc();
    let (date, time) = (instant.date(), instant.time());
    let year = u32::try_from(date.year()).ok().filter(|year| *year < 10_000)?;
    let micros = time.nanosecond() / 1000;
    if micros >= 1_000_000 {
        return None;
    }
    let pairs = [
        (0, year / 100),
        (2, year % 100),
        (5, date.month()),
        (8, date.day()),
        (11, time.hour()),
        (14, time.minute()),
        (17, time.second()),
        (20, micros / 10_000),
        (22, micros / 100 % 100),
        (24, micros % 100),
    ];
    for (place, number) in pairs {
        // Below 100, so the other bytes are zero.
        let [.., number] = number.to_be_bytes();
        text[place] = b'0' + number / 10;
        text[place + 1] = b'0' + number % 10;
    }
    Some(())
}

/// What is always `null` here.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Null;

impl utoipa::PartialSchema for Null {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::Null).into()
    }
}

impl ToSchema for Null {}

/// A person's name tag.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserRef {
    #[schema(value_type = uuid::Uuid, examples("019aa0f0-0000-7000-8000-0000000000cc"))]
    pub id: UserId,
    #[schema(value_type = String, format = Email, examples("ed@newsroom.example"))]
    pub email: Email,
    #[schema(value_type = String, examples("Ed Editor"))]
    pub display_name: DisplayName,
}

impl From<domain::user::UserRef> for UserRef {
    fn from(user: domain::user::UserRef) -> Self {
        Self { id: user.id, email: user.email, display_name: user.display_name }
    }
}

/// Whether something is possible, and if not, every reason why.
#[derive(Debug, Serialize, ToSchema)]
pub struct Permissibility {
    pub allowed: bool,
    pub reasons: Vec<ReasonDocument>,
}

impl From<Vec<Reason>> for Permissibility {
    fn from(reasons: Vec<Reason>) -> Self {
        Self { allowed: reasons.is_empty(), reasons: reasons.into_iter().map(Into::into).collect() }
    }
}

/// A user's account.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    #[schema(value_type = uuid::Uuid, examples("019aa0f0-0000-7000-8000-0000000000cc"))]
    pub id: UserId,
    #[schema(format = Email, examples("ed@newsroom.example"))]
    pub email: String,
    #[schema(examples("Ed Editor"))]
    pub display_name: String,
    pub role: Role,
    pub status: UserStatus,
    /// Raised by one with every change; the `ETag`.
    #[schema(examples(3))]
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Whether the caller may act as this user, and if not, why; `null` for a caller who may not impersonate at all.
    #[schema(required = true)]
    pub impersonation: Option<Permissibility>,
}

impl User {
    /// `button`: why the caller may not act as this user, if it is to be told at all.
    pub fn new(user: domain::user::User, button: Option<Vec<Reason>>) -> Self {
        Self {
            id: user.id,
            email: user.email.to_string(),
            display_name: user.display_name.to_string(),
            role: user.role,
            status: user.status,
            version: user.version,
            created_at: Timestamp(user.created_at),
            updated_at: Timestamp(user.updated_at),
            impersonation: button.map(Into::into),
        }
    }
}

/// A discriminator: an enum of one value.
macro_rules! string_kind {
    ($(#[$meta:meta])* $name:ident, $text:tt) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Serialize, ToSchema)]
        pub enum $name {
            #[serde(rename = $text)]
            It,
        }
    };
}
string_kind!(
    /// Says that a session is its subject's own.
    OwnKind, "own"
);
string_kind!(
    /// Says that somebody acts as the subject.
    ImpersonationKind, "impersonation"
);

/// Who one is, and as whom. Under impersonation everything is as the subject sees it; what is withheld stands apart.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(discriminator(property_name = "kind", mapping(
    ("own" = "#/components/schemas/OwnSession"),
    ("impersonation" = "#/components/schemas/ImpersonationSession")
)))]
pub enum Session {
    Own(OwnSession),
    Impersonation(Box<ImpersonationSession>),
}

/// A session that a login opened.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "019aa0f0-0000-7000-8000-0000000000de", "kind": "own",
    "subject": { "id": "019aa0f0-0000-7000-8000-0000000000cd", "email": "ada@newsroom.example", "display_name": "Ada Admin" },
    "actor": null, "impersonation": null,
    "permissions": ["articles:assign_editor", "articles:publish", "articles:read_all", "clients:read", "clients:write", "history:read", "impersonations:end", "impersonations:read",
        "impersonations:undo", "policy:read", "policy:write", "sessions:end", "users:impersonate", "users:read", "users:write"], "scope": null,
    "expires_at": "2026-11-23T10:00:00.000000Z", "expires_in": 3600
})))]
pub struct OwnSession {
    #[schema(value_type = uuid::Uuid)]
    pub id: SessionId,
    #[schema(inline)]
    pub kind: OwnKind,
    pub subject: UserRef,
    /// Always `null`: nobody else is there.
    #[schema(value_type = Option<UserRef>, required = true)]
    pub actor: Null,
    /// Always `null`.
    #[schema(value_type = Option<ImpersonationTerms>, required = true)]
    pub impersonation: Null,
    pub permissions: Vec<Permission>,
    /// How far the token reaches, as permissions with spaces between; `null` where it reaches as far as the subject does. `permissions` are what both allow.
    #[schema(required = true, examples("articles:create users:read"))]
    pub scope: Option<String>,
    /// When the presented access token expires.
    pub expires_at: Timestamp,
    /// Whole seconds until then.
    pub expires_in: i64,
}

/// A session in which an actor acts as the subject.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "019aa0f0-0000-7000-8000-0000000000dd", "kind": "impersonation",
    "subject": { "id": "019aa0f0-0000-7000-8000-0000000000cc", "email": "ed@newsroom.example", "display_name": "Ed Editor" },
    "actor": { "id": "019aa0f0-0000-7000-8000-0000000000cd", "email": "ada@newsroom.example", "display_name": "Ada Admin" },
    "impersonation": {
        "id": "019aa0f0-0000-7000-8000-0000000000dd", "reason": "Ed can't accept the article about tides", "ticket": "HELP-42", "mode": "full",
        "started_at": "2026-11-23T09:15:00.000000Z", "expires_at": "2026-11-23T09:45:00.000000Z",
        "permissions": ["articles:edit_assigned"], "resources": ["article:019aa0f0-0000-7000-8000-0000000000aa"],
        "withheld": ["impersonation:start", "credentials:change", "accounts:change", "permissions:other", "resources:other"]
    },
    "permissions": ["articles:create", "articles:edit_assigned"], "scope": null,
    "expires_at": "2026-11-23T09:45:00.000000Z", "expires_in": 1800
})))]
pub struct ImpersonationSession {
    #[schema(value_type = uuid::Uuid)]
    pub id: SessionId,
    #[schema(inline)]
    pub kind: ImpersonationKind,
    pub subject: UserRef,
    pub actor: UserRef,
    pub impersonation: ImpersonationTerms,
    /// The subject's, exactly as the subject has them.
    pub permissions: Vec<Permission>,
    /// How far the token reaches by itself, as permissions with spaces between; `null` where it was neither exchanged nor given by the token endpoint. `permissions`
    /// are what both allow. What the impersonation was not started for stands in `impersonation`.
    #[schema(required = true, examples("articles:create users:read"))]
    pub scope: Option<String>,
    /// When the presented access token expires.
    pub expires_at: Timestamp,
    /// Whole seconds until then.
    pub expires_in: i64,
}

/// On what terms somebody acts as the subject.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImpersonationTerms {
    #[schema(value_type = uuid::Uuid, examples("019aa0f0-0000-7000-8000-0000000000dd"))]
    pub id: SessionId,
    #[schema(required = true, examples("Ed can't accept the article about tides"))]
    pub reason: Option<String>,
    #[schema(required = true, examples("HELP-42"))]
    pub ticket: Option<String>,
    /// The mode that holds now: the start's, unless the policy says less.
    pub mode: Mode,
    /// The permissions for which it was started; `null` where that is all of the subject's.
    #[schema(required = true)]
    pub permissions: Option<Vec<Permission>>,
    /// The resources for which it was started, each `article:<id>`; `null` where that is everything that the subject sees.
    #[schema(required = true, value_type = Option<Vec<ResourceName>>)]
    pub resources: Option<Vec<String>>,
    pub started_at: Timestamp,
    pub expires_at: Timestamp,
    /// What the subject may do and this impersonation may not.
    pub withheld: Vec<Withheld>,
}

impl Session {
    /// `expires_at`: the presented token's.
    pub fn new(identity: &Identity, expires_at: Time, now: Time) -> Self {
        let session = identity.session();
        let id = identity.sid();
        let subject: UserRef = session.subject.user.clone().into();
        let permissions = session.subject.rights().permissions().collect();
        let scope = session.subject.scope.map(|scope| scope.to_string());
        let expires_in = (expires_at - now).num_seconds().max(0);
        let (mode, withheld) = match identity.hold() {
            Some(hold) => (hold.mode, hold.withheld()),
            None => (Mode::Full, Vec::new()),
        };
        match &session.kind {
            Kind::Own => Self::Own(OwnSession {
                id,
                kind: OwnKind::It,
                subject,
                actor: Null,
                impersonation: Null,
                permissions,
                scope,
                expires_at: Timestamp(expires_at),
                expires_in,
            }),
            Kind::Impersonation(acting) => Self::Impersonation(Box::new(ImpersonationSession {
                id,
                kind: ImpersonationKind::It,
                subject,
                actor: acting.actor.user.clone().into(),
                impersonation: ImpersonationTerms {
                    id: session.id,
                    reason: acting.grant.reason.as_ref().map(ToString::to_string),
                    ticket: acting.grant.ticket.as_ref().map(ToString::to_string),
                    mode,
                    permissions: permissions_of(&acting.grant.bounds),
                    resources: acting.grant.bounds.resources(),
                    started_at: Timestamp(session.started_at),
                    expires_at: Timestamp(session.expires_at),
                    withheld,
                },
                permissions,
                scope,
                expires_at: Timestamp(expires_at),
                expires_in,
            })),
        }
    }
}

fn permissions_of(bounds: &Bounds) -> Option<Vec<Permission>> {
    bounds.permissions.map(|permissions| permissions.permissions().collect())
}

/// How a resource is written: `article:<id>`.
pub struct ResourceName;

impl utoipa::PartialSchema for ResourceName {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let name = utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .description(Some("A resource: `article:` and its id"))
            .pattern(Some("^article:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"))
            .examples(["article:019aa0f0-0000-7000-8000-0000000000aa"]);
        name.into()
    }
}

impl ToSchema for ResourceName {}

impl utoipa::PartialSchema for RefusedOperation {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let names = utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .description(Some("What can be refused under impersonation: a call by its `operationId`, or what is done with an article"))
            .enum_values(Some(Self::all().map(|operation| operation.to_string())));
        names.into()
    }
}

impl ToSchema for RefusedOperation {}

/// What a start would give, without a token.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImpersonationTrial {
    /// Always `true`: nothing was started.
    #[schema(examples(true))]
    pub dry_run: bool,
    /// Whole seconds that the impersonation would have.
    #[schema(examples(1800))]
    pub expires_in: i64,
    pub session: TrialSession,
}

/// The session that a start would open, but for its id.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialSession {
    #[schema(inline)]
    pub kind: ImpersonationKind,
    pub subject: UserRef,
    pub actor: UserRef,
    pub impersonation: TrialTerms,
    /// The subject's.
    pub permissions: Vec<Permission>,
    /// Always `null`: the token would have no scope of its own.
    #[schema(value_type = Option<String>, required = true)]
    pub scope: Null,
    pub expires_at: Timestamp,
    pub expires_in: i64,
}

/// On what terms somebody would act as the subject.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialTerms {
    #[schema(required = true)]
    pub reason: Option<String>,
    #[schema(required = true)]
    pub ticket: Option<String>,
    pub mode: Mode,
    #[schema(required = true)]
    pub permissions: Option<Vec<Permission>>,
    #[schema(required = true, value_type = Option<Vec<ResourceName>>)]
    pub resources: Option<Vec<String>>,
    pub started_at: Timestamp,
    pub expires_at: Timestamp,
    pub withheld: Vec<Withheld>,
}

impl From<impersonations::Trial> for ImpersonationTrial {
    fn from(trial: impersonations::Trial) -> Self {
        let expires_in = (trial.expires_at - trial.started_at).num_seconds().max(0);
        let terms = TrialTerms {
            reason: trial.grant.reason.as_ref().map(ToString::to_string),
            ticket: trial.grant.ticket.as_ref().map(ToString::to_string),
            mode: trial.grant.mode,
            permissions: permissions_of(&trial.grant.bounds),
            resources: trial.grant.bounds.resources(),
            started_at: Timestamp(trial.started_at),
            expires_at: Timestamp(trial.expires_at),
            withheld: trial.withheld,
        };
        let session = TrialSession {
            kind: ImpersonationKind::It,
            permissions: trial.subject.rights().permissions().collect(),
            scope: Null,
            subject: trial.subject.user.into(),
            actor: trial.actor.into(),
            impersonation: terms,
            expires_at: Timestamp(trial.expires_at),
            expires_in,
        };
        Self { dry_run: true, expires_in, session }
    }
}

/// How an access token is used (RFC 6750).
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub enum TokenType {
    Bearer,
}

/// An access token, and what it stands for.
#[derive(Serialize, ToSchema)]
pub struct Grant {
    /// Goes into `Authorization: Bearer …`. A secret.
    #[schema(examples("eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFZERTQSJ9.e30.c2ln"))]
    pub access_token: String,
    pub token_type: TokenType,
    /// Whole seconds that the access token has left.
    #[schema(examples(1800))]
    pub expires_in: i64,
    pub session: Session,
}

/// An access token with a refresh token, as login and refresh give them.
#[derive(Serialize, ToSchema)]
pub struct LoginGrant {
    /// Goes into `Authorization: Bearer …`. A secret.
    #[schema(examples("eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFZERTQSJ9.e30.c2ln"))]
    pub access_token: String,
    pub token_type: TokenType,
    /// Whole seconds that the access token has left.
    #[schema(examples(3600))]
    pub expires_in: i64,
    /// Good for one `POST /v1/auth/refresh`, which gives its successor. A secret.
    pub refresh_token: String,
    pub refresh_expires_at: Timestamp,
    pub session: Session,
}

impl Grant {
    pub fn new(grant: grants::Grant, now: Time) -> Self {
        let expires_in = (grant.expires_at - now).num_seconds().max(0);
        let session = Session::new(&Identity::of_live(grant.session, grant.policy), grant.expires_at, now);
        Self { access_token: grant.access_token, token_type: TokenType::Bearer, expires_in, session }
    }
}

impl LoginGrant {
    /// Nothing where the grant has no refresh token.
    pub fn new(mut grant: grants::Grant, now: Time) -> Option<Self> {
        let (refresh_token, refresh_expires_at) = grant.refresh.take()?;
        let Grant { access_token, token_type, expires_in, session } = Grant::new(grant, now);
        Some(Self {
            access_token,
            token_type,
            expires_in,
            refresh_token: refresh_token.reveal().to_owned(),
            refresh_expires_at: Timestamp(refresh_expires_at),
            session,
        })
    }
}

/// An own session, as its user sees it in the list.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionSummary {
    #[schema(value_type = uuid::Uuid, examples("019aa0f0-0000-7000-8000-0000000000dd"))]
    pub id: SessionId,
    /// Whether this is the session of the request.
    pub current: bool,
    pub started_at: Timestamp,
    /// When its refresh token expires.
    pub expires_at: Timestamp,
    /// To the minute.
    pub last_used_at: Timestamp,
    /// Where it was opened from; an IPv6 address by its /64.
    #[schema(required = true, examples("192.0.2.7"))]
    pub client_ip: Option<String>,
    #[schema(required = true, examples("curl/8.11"))]
    pub user_agent: Option<String>,
}

/// An impersonation, live or past.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "019aa0f0-0000-7000-8000-0000000000dd", "status": "ended",
    "subject": { "id": "019aa0f0-0000-7000-8000-0000000000cc", "email": "ed@newsroom.example", "display_name": "Ed Editor" },
    "actor": { "id": "019aa0f0-0000-7000-8000-0000000000cd", "email": "ada@newsroom.example", "display_name": "Ada Admin" },
    "reason": "Ed can't accept the article about tides", "ticket": "HELP-42", "mode": "full", "permissions": null, "resources": null,
    "started_at": "2026-11-23T09:15:00.000000Z", "expires_at": "2026-11-23T09:45:00.000000Z", "ended_at": "2026-11-23T09:21:07.000000Z",
    "ended_by": { "id": "019aa0f0-0000-7000-8000-0000000000cd", "email": "ada@newsroom.example", "display_name": "Ada Admin" },
    "cause": "logout", "entry_count": 2
})))]
pub struct Impersonation {
    #[schema(value_type = uuid::Uuid)]
    pub id: SessionId,
    pub status: ImpersonationStatus,
    pub subject: UserRef,
    pub actor: UserRef,
    #[schema(required = true)]
    pub reason: Option<String>,
    #[schema(required = true)]
    pub ticket: Option<String>,
    /// As it was started; the policy may say less.
    pub mode: Mode,
    /// The permissions for which it was started; `null` where that is all of the subject's.
    #[schema(required = true)]
    pub permissions: Option<Vec<Permission>>,
    /// The resources for which it was started, each `article:<id>`; `null` where that is everything that the subject sees.
    #[schema(required = true, value_type = Option<Vec<ResourceName>>)]
    pub resources: Option<Vec<String>>,
    pub started_at: Timestamp,
    pub expires_at: Timestamp,
    #[schema(required = true)]
    pub ended_at: Option<Timestamp>,
    /// Who ended it; `null` where it ended by itself or still runs.
    #[schema(required = true)]
    pub ended_by: Option<UserRef>,
    #[schema(required = true)]
    pub cause: Option<EndCause>,
    /// How many entries of the history were written under it.
    pub entry_count: i64,
}

impl From<domain::impersonation::Impersonation> for Impersonation {
    fn from(it: domain::impersonation::Impersonation) -> Self {
        let (ended_at, cause, ended_by) = match it.end {
            Some(end) => (Some(Timestamp(end.at)), Some(end.cause), end.by.map(Into::into)),
            None => (None, None, None),
        };
        Self {
            id: it.id,
            status: if ended_at.is_some() { ImpersonationStatus::Ended } else { ImpersonationStatus::Live },
            subject: it.subject.into(),
            actor: it.actor.into(),
            reason: it.grant.reason.map(|reason| reason.to_string()),
            ticket: it.grant.ticket.map(|ticket| ticket.to_string()),
            mode: it.grant.mode,
            permissions: permissions_of(&it.grant.bounds),
            resources: it.grant.bounds.resources(),
            started_at: Timestamp(it.started_at),
            expires_at: Timestamp(it.expires_at),
            ended_at,
            ended_by,
            cause,
            entry_count: it.entry_count,
        }
    }
}

/// Whether the caller's subject may do one thing with an article, and if not, every reason why.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionStatus {
    pub action: ArticleAction,
    pub allowed: bool,
    pub reasons: Vec<ReasonDocument>,
}

impl From<(ArticleAction, Vec<Reason>)> for ActionStatus {
    fn from((action, reasons): (ArticleAction, Vec<Reason>)) -> Self {
        Self { action, allowed: reasons.is_empty(), reasons: reasons.into_iter().map(Into::into).collect() }
    }
}

/// What became of one change that was to be undone.
#[derive(Debug, Serialize, ToSchema)]
pub struct UndoneChange {
    /// The change's entry.
    #[schema(value_type = uuid::Uuid)]
    pub entry_id: EntryId,
    /// Its place in the history.
    pub seq: i64,
    pub action: EntryAction,
    #[schema(value_type = uuid::Uuid)]
    pub article_id: ArticleId,
    pub outcome: UndoOutcome,
    /// The entry that undoes it, where it was undone now.
    #[schema(required = true, value_type = Option<uuid::Uuid>)]
    pub undone_by: Option<EntryId>,
    /// Why it was left alone, where it was.
    #[schema(required = true)]
    pub conflict: Option<UndoConflict>,
}

/// Why a change was left alone.
#[derive(Debug, Serialize, ToSchema)]
pub struct UndoConflict {
    pub code: ConflictCode,
    #[schema(examples("what it changed was changed again since"))]
    pub detail: String,
}

/// What became of the changes of articles that were made in an impersonation, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Undo {
    #[schema(value_type = uuid::Uuid)]
    pub impersonation_id: SessionId,
    /// Whether nothing was changed, and this is what would be.
    pub dry_run: bool,
    /// Whether these are all of them: one call tells of about 1,000.
    pub complete: bool,
    pub changes: Vec<UndoneChange>,
}

impl Undo {
    pub fn new(impersonation_id: SessionId, dry_run: bool, undoing: undo::Undoing) -> Self {
        let change = |one: undo::Undone| UndoneChange {
            entry_id: one.entry,
            seq: one.seq,
            action: one.action,
            article_id: one.article,
            outcome: one.outcome,
            undone_by: one.undone_by,
            conflict: one.conflict.map(|conflict| UndoConflict { code: conflict.code, detail: conflict.detail }),
        };
        Self { impersonation_id, dry_run, complete: undoing.is_complete, changes: undoing.changes.into_iter().map(change).collect() }
    }
}

/// An article, with what the caller's subject may do with it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Article {
    #[schema(value_type = uuid::Uuid, examples("019aa0f0-0000-7000-8000-0000000000aa"))]
    pub id: ArticleId,
    #[schema(value_type = String, examples("On tides"))]
    pub title: Title,
    #[schema(value_type = String, examples("Why the sea moves."))]
    pub r#abstract: Abstract,
    #[schema(value_type = String, examples("It just does."))]
    pub body: Body,
    pub status: ArticleStatus,
    pub author: UserRef,
    #[schema(required = true)]
    pub editor: Option<UserRef>,
    /// Raised by one with every change; the `ETag`.
    #[schema(examples(4))]
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Every action there is, allowed or not.
    pub actions: Vec<ActionStatus>,
}

impl Article {
    pub fn new(article: domain::article::Article, assessments: Vec<(ArticleAction, Vec<Reason>)>) -> Self {
        Self {
            id: article.id,
            title: article.title,
            r#abstract: article.r#abstract,
            body: article.body,
            status: article.status,
            author: article.author.into(),
            editor: article.editor.map(Into::into),
            version: article.version,
            created_at: Timestamp(article.created_at),
            updated_at: Timestamp(article.updated_at),
            actions: assessments.into_iter().map(Into::into).collect(),
        }
    }
}

impl utoipa::PartialSchema for ClientId {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let id = utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .description(Some("A client: a UUID, or `actas`, which is the first-party client"))
            .pattern(Some("^(actas|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$"))
            .examples(["019aa0f0-0000-7000-8000-0000000000ff"]);
        id.into()
    }
}

impl ToSchema for ClientId {}

impl utoipa::PartialSchema for Audience {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let audience = utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .description(Some("Whom a token is for: the claim `aud`. Often a URL"))
            .min_length(Some(1))
            .max_length(Some(Self::MAX_BYTES))
            .pattern(Some(r"^[!#-\[\]-~]+$"))
            .examples(["https://archive.example"]);
        audience.into()
    }
}

impl ToSchema for Audience {}

/// A program that may ask for tokens.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "019aa0f0-0000-7000-8000-0000000000ff", "name": "Archive", "status": "active", "grants": ["client_credentials", "token_exchange"],
    "scope": "articles:read_all users:read", "audiences": ["https://search.example"], "presenters": [],
    "version": 1, "created_at": "2026-11-23T09:15:00.000000Z", "updated_at": "2026-11-23T09:15:00.000000Z"
})))]
pub struct Client {
    pub id: ClientId,
    pub name: String,
    pub status: ClientStatus,
    /// What it may ask the token endpoint for.
    pub grants: Vec<ClientGrant>,
    /// The most that its tokens reach, as permissions with spaces between. The first-party client's reach as far as its users do, and this is empty.
    pub scope: String,
    /// For whom it may ask tokens, and whose tokens it may introspect. Every client is an audience by its id, too.
    pub audiences: Vec<Audience>,
    /// The clients that may present this one's tokens for an exchange.
    pub presenters: Vec<ClientId>,
    /// Raised by one with every change; the `ETag`.
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl From<domain::client::Client> for Client {
    fn from(client: domain::client::Client) -> Self {
        let terms = client.terms;
        Self {
            id: client.id,
            name: terms.name.to_string(),
            status: terms.status,
            grants: terms.grants,
            scope: terms.scope.to_string(),
            audiences: terms.audiences,
            presenters: terms.presenters,
            version: client.version,
            created_at: Timestamp(client.created_at),
            updated_at: Timestamp(client.updated_at),
        }
    }
}

/// A client, with the secret by which it proves who it is.
#[derive(Serialize, ToSchema)]
pub struct ClientWithSecret {
    #[serde(flatten)]
    pub client: Client,
    /// For the token endpoint: `client_secret_basic` or `client_secret_post`. Told here and nowhere else. A secret.
    #[schema(examples("actas_cs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))]
    pub client_secret: String,
}

impl From<clients::WithSecret> for ClientWithSecret {
    fn from(made: clients::WithSecret) -> Self {
        Self { client: made.client.into(), client_secret: made.secret.reveal().to_owned() }
    }
}

/// What an entry is about.
#[derive(Debug, Serialize, ToSchema)]
pub struct Resource {
    pub r#type: ResourceType,
    /// A UUID; for a key, its `kid`; for the first-party client, `actas`; for the policy, `policy`.
    #[schema(examples("019aa0f0-0000-7000-8000-0000000000aa"))]
    pub id: String,
    /// The version that the article or the user has after the change; `null` for everything else.
    #[schema(required = true, examples(4))]
    pub version: Option<i64>,
}

/// One entry of the history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "019aa0f0-0000-7000-8000-0000000000ee", "seq": 42, "occurred_at": "2026-11-23T09:15:00.000000Z", "origin": "api", "action": "article.updated",
    "resource": { "type": "article", "id": "019aa0f0-0000-7000-8000-0000000000aa", "version": 4 },
    "subject": { "id": "019aa0f0-0000-7000-8000-0000000000cc", "email": "ed@newsroom.example", "display_name": "Ed Editor" },
    "actor": { "id": "019aa0f0-0000-7000-8000-0000000000cd", "email": "ada@newsroom.example", "display_name": "Ada Admin" },
    "impersonation_id": "019aa0f0-0000-7000-8000-0000000000dd", "note": "Ada Admin acting as Ed Editor",
    "changes": { "title": { "from": "On tides", "to": "On the tides" } },
    "request_id": "019aa0f0-0000-7000-8000-0000000000bb", "count": null
})))]
pub struct Entry {
    #[schema(value_type = uuid::Uuid)]
    pub id: EntryId,
    /// Its place: later entries have higher ones.
    pub seq: i64,
    pub occurred_at: Timestamp,
    pub origin: Origin,
    pub action: EntryAction,
    pub resource: Resource,
    /// As whom it was done, with the name as it was; `null` for the command line, for Actas itself, and where a client got or ended a token of its own.
    #[schema(required = true)]
    pub subject: Option<UserRef>,
    /// Who really did it, under impersonation.
    #[schema(required = true)]
    pub actor: Option<UserRef>,
    #[schema(required = true, value_type = Option<uuid::Uuid>)]
    pub impersonation_id: Option<SessionId>,
    /// Under impersonation, `<actor> acting as <subject>`; for the command line and for Actas itself, why.
    #[schema(required = true)]
    pub note: Option<String>,
    /// Each changed field, before and after.
    #[schema(value_type = std::collections::BTreeMap<String, Change>)]
    pub changes: Changes,
    #[schema(required = true)]
    pub request_id: Option<String>,
    /// How often it happened within the minute; only `impersonation.refused` counts, everything else says `null`.
    #[schema(required = true)]
    pub count: Option<i64>,
}

/// A field before and after.
#[derive(Debug, Serialize, ToSchema)]
pub struct Change {
    #[schema(value_type = ChangedValue)]
    pub from: serde_json::Value,
    #[schema(value_type = ChangedValue)]
    pub to: serde_json::Value,
}

/// What a field may hold: a text, a number, yes or no, a list of texts, or nothing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ChangedValue {
    Text(String),
    Number(i64),
    Boolean(bool),
    Texts(Vec<String>),
    Nothing(#[schema(inline)] Null),
}

impl From<domain::history::Entry> for Entry {
    fn from(entry: domain::history::Entry) -> Self {
        let written = entry.written;
        Self {
            id: written.id,
            seq: entry.seq,
            occurred_at: Timestamp(written.occurred_at),
            origin: written.origin,
            action: written.action,
            resource: Resource { r#type: written.resource.r#type, id: written.resource.id, version: written.resource.version },
            subject: written.subject.map(Into::into),
            actor: written.actor.map(Into::into),
            impersonation_id: written.impersonation_id,
            note: written.note,
            changes: written.changes,
            request_id: written.request_id,
            count: entry.count,
        }
    }
}

/// Defines the page of a listing.
macro_rules! page {
    ($($name:ident of $item:ident),+ $(,)?) => { $(
        /// One page of a listing, newest first.
        #[derive(Debug, Serialize, ToSchema)]
        pub struct $name {
            pub items: Vec<$item>,
            /// Give it as `cursor` for the next page; `null` on the last one.
            #[schema(required = true, examples(json!(null)))]
            pub next_cursor: Option<String>,
        }

        impl From<domain::page::Page<$item>> for $name {
            fn from(page: domain::page::Page<$item>) -> Self {
                Self { items: page.items, next_cursor: page.next_cursor }
            }
        }

        impl super::answer::Listing for $name {
            fn next_cursor(&self) -> Option<&str> { self.next_cursor.as_deref() }
        }
    )+ };
}
page! {
    UserPage of User, ArticlePage of Article, ClientPage of Client, EntryPage of Entry, ImpersonationPage of Impersonation,
    SessionPage of SessionSummary,
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    fn written(instant: Time) -> String {
        serde_json::to_value(Timestamp(instant)).unwrap().as_str().unwrap().to_owned()
    }

    proptest! {
        #[test]
        fn instants_are_written_as_chrono_writes_them(seconds in -100_000_000_000_i64..300_000_000_000, nanos in 0_u32..2_000_000_000) {
            // Nanoseconds beyond a second are a leap second's.
            if let Some(instant) = DateTime::from_timestamp(seconds, nanos) {
                prop_assert_eq!(written(instant), instant.to_rfc3339_opts(SecondsFormat::Micros, true));
            }
        }
    }

    #[test]
    fn instants_at_the_edges_are_written_as_chrono_writes_them() {
        for (seconds, nanos) in [
            (-62_167_219_200, 0),
            (-62_167_219_201, 999_999_999),
            (253_402_300_799, 999_999_999),
            (253_402_300_800, 0),
            (0, 999),
            (1_483_228_799, 1_999_999_999),
        ] {
            let instant = DateTime::from_timestamp(seconds, nanos).unwrap();
            assert_eq!(written(instant), instant.to_rfc3339_opts(SecondsFormat::Micros, true));
        }
    }
}
