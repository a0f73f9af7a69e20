//! Impersonation: who may act as whom, how far it goes, and how it ends.

use super::error::{Reason, ReasonCode};
use super::identity::Identity;
use super::ids::{ArticleId, SessionId, UserId};
use super::policy::Policy;
use super::role::Permission;
use super::scope::Scope;
use super::text::{self, RestoreChallenge, Ticket};
use super::user::{Principal, UserRef};
use super::{Time, string_enum};

string_enum! {
    /// What an impersonation may do: all that the subject may (less what every impersonation withholds), or only look.
    #[schema(as = ImpersonationMode)]
    pub enum Mode {
        Full => "full",
        ReadOnly => "read_only",
    }
}

string_enum! {
    /// Why a session ended.
    pub enum EndCause {
        /// Its own logout.
        Logout => "logout",
        /// Its time was over.
        Expired => "expired",
        /// Nobody used it for longer than the idle limit.
        Idle => "idle",
        /// The subject was disabled, now outranks the actor, or is one as whom nobody may act any more.
        SubjectChanged => "subject_changed",
        /// The actor lost the right to impersonate the subject.
        ActorDemoted => "actor_demoted",
        /// The actor was disabled.
        ActorDisabled => "actor_disabled",
        /// The session that it was started from is over.
        OriginalSessionEnded => "original_session_ended",
        /// A person ended it: its actor or its subject from elsewhere, or a holder of the right.
        EndedByPerson => "ended_by_person",
        /// The subject's or the actor's password was changed or reset.
        PasswordChanged => "password_changed",
        /// An own session's user was disabled.
        UserDisabled => "user_disabled",
        /// A refresh token came back that had been replaced: somebody else has a copy.
        RefreshTokenReused => "refresh_token_reused",
        /// Its token was revoked (RFC 7009).
        Revoked => "revoked",
        /// The client that it was started by was disabled.
        ClientDisabled => "client_disabled",
        /// Impersonation was frozen.
        Frozen => "frozen",
    }
}

impl EndCause {
    /// Whether an impersonation that ended so still gives its original token back at logout: it ended by itself, and
    /// nobody meant to take it away.
    pub const fn leaves_the_way_back(self) -> bool {
        matches!(self, Self::Expired | Self::Idle | Self::SubjectChanged | Self::ActorDemoted)
    }
}

string_enum! {
    /// What an impersonation withholds of the subject's rights.
    pub enum Withheld {
        /// Starting another impersonation.
        StartImpersonation => "impersonation:start",
        /// Changing passwords, and ending the subject's sessions.
        ChangeCredentials => "credentials:change",
        /// Creating accounts and changing any.
        ChangeAccounts => "accounts:change",
        /// Every mutation; in mode `read_only`.
        Mutate => "mutations",
        /// The subject's permissions beyond those for which it was started.
        OtherPermissions => "permissions:other",
        /// Everything but the resources for which it was started.
        OtherResources => "resources:other",
        /// What the policy refuses under impersonation.
        RefusedOperations => "operations:refused",
    }
}

/// How far an impersonation goes at most, where it was started for less than all that its subject may. It gives nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The permissions that it may use; `None` is all.
    pub permissions: Option<Scope>,
    /// The articles that it may see and change, in order; `None` is all. Never empty.
    pub articles: Option<Vec<ArticleId>>,
}

impl Bounds {
    /// How many resources one start may name.
    pub const MAX_RESOURCES: usize = 20;

    /// A resource as it is written: `article:<id>`.
    pub fn write_article(id: ArticleId) -> String {
        format!("article:{id}")
    }

    /// The article that `text` names.
    pub fn read_article(text: &str) -> Option<ArticleId> {
        text.strip_prefix("article:").and_then(ArticleId::parse)
    }

    /// The resources as they are written.
    pub fn resources(&self) -> Option<Vec<String>> {
        self.articles.as_ref().map(|articles| articles.iter().copied().map(Self::write_article).collect())
    }

    pub fn permit(&self, permission: Permission) -> bool {
        self.permissions.is_none_or(|permissions| permissions.contains(permission))
    }

    pub fn cover(&self, article: ArticleId) -> bool {
        self.articles.as_ref().is_none_or(|articles| articles.contains(&article))
    }
}

/// What holds an actor back, while acting as someone, from all that the subject may.
#[derive(Debug, Clone, Copy)]
pub struct Hold<'a> {
    /// The mode that holds now: the start's, unless the policy says less.
    pub mode: Mode,
    /// Whether the policy makes it read-only, and not the start.
    pub is_read_only_by_policy: bool,
    pub bounds: &'a Bounds,
    pub policy: &'a Policy,
}

impl Hold<'_> {
    /// What is withheld, in short.
    pub fn withheld(&self) -> Vec<Withheld> {
        let mut withheld = vec![Withheld::StartImpersonation, Withheld::ChangeCredentials, Withheld::ChangeAccounts];
        withheld.extend((self.mode == Mode::ReadOnly).then_some(Withheld::Mutate));
        withheld.extend(self.bounds.permissions.map(|_| Withheld::OtherPermissions));
        withheld.extend(self.bounds.articles.as_ref().map(|_| Withheld::OtherResources));
        withheld.extend((!self.policy.terms.refused_operations.is_empty()).then_some(Withheld::RefusedOperations));
        withheld
    }
}

/// What an impersonation was started with.
#[derive(Debug, Clone)]
pub struct Grant {
    /// One line, or empty where the settings make it optional and none was given.
    pub reason: Option<text::Reason>,
    pub ticket: Option<Ticket>,
    pub mode: Mode,
    pub bounds: Bounds,
}

/// What a caller asks for when it starts an impersonation.
#[derive(Debug, Clone)]
pub struct StartRequest {
    pub reason: Option<text::Reason>,
    pub ticket: Option<Ticket>,
    pub duration_seconds: Option<u32>,
    /// `None` is the policy's.
    pub mode: Option<Mode>,
    pub bounds: Bounds,
    pub restore_challenge: Option<RestoreChallenge>,
}

/// An impersonation as it is listed, live or past.
#[derive(Debug, Clone)]
pub struct Impersonation {
    pub id: SessionId,
    pub subject: UserRef,
    pub actor: UserRef,
    pub grant: Grant,
    pub started_at: Time,
    pub expires_at: Time,
    pub end: Option<End>,
    /// How many entries of the history were written under it.
    pub entry_count: i64,
}

/// How an impersonation ended.
#[derive(Debug, Clone)]
pub struct End {
    pub at: Time,
    pub cause: EndCause,
    /// The person who ended it; nobody where it ended by itself.
    pub by: Option<UserRef>,
}

string_enum! {
    /// Whether an impersonation still runs.
    pub enum ImpersonationStatus {
        Live => "live",
        Ended => "ended",
    }
}

/// What the token of whoever would start an impersonation is, beside whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posture {
    /// Whether they act as someone already.
    pub nested: bool,
    /// Whether it was exchanged for another one. Such a token never starts an impersonation: whoever got it was to do less than its user, and not more.
    pub exchanged: bool,
}

impl Posture {
    /// A login's own token.
    pub const PLAIN: Self = Self { nested: false, exchanged: false };

    pub fn of(identity: &Identity) -> Self {
        Self { nested: identity.actor().is_some(), exchanged: identity.exchange().is_some() }
    }
}

/// Why `caller` may not act as `subject`: all reasons that hold, none if it may.
///
/// The ceiling: only a holder of `users:impersonate` may act, and only as another, active user who does not hold that
/// permission, and whose privileged permissions are all among the caller's. Nesting is refused; and so is what the policy rules out.
pub fn refusals(caller: &Principal, subject: &Principal, posture: Posture, policy: &Policy) -> Vec<Reason> {
    let mut reasons = caller_refusals(caller, subject.id(), posture, policy);
    if !subject.is_active() {
        reasons.push(Reason::new(ReasonCode::SubjectInactive, "the user is disabled"));
    }
    // Whatever the scope with which the subject is here: the role says who somebody is.
    if subject.role.holds(Permission::UsersImpersonate) {
        reasons.push(Reason::new(ReasonCode::SubjectMayImpersonate, "the user may impersonate others, so nobody may act as them"));
    }
    if caller.role.is_outranked_by(subject.role) {
        reasons.push(Reason::new(ReasonCode::SubjectOutranksCaller, "the user holds privileged permissions that you do not hold"));
    }
    if policy.protects(subject.role) {
        let detail = format!("the policy lets nobody act as a user with the role `{}`", subject.role);
        reasons.push(Reason::new(ReasonCode::SubjectProtected, detail));
    }
    reasons
}

/// What an actor has started already, as far as the policy limits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Impersonations that run.
    pub live: i64,
    /// Impersonations started within the last hour.
    pub within_the_hour: i64,
}

/// Why the policy refuses this very start to an actor who may act as the subject: all reasons that hold.
pub fn start_refusals(caller: &Principal, mode: Option<Mode>, usage: Usage, policy: &Policy) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let terms = &policy.terms;
    if mode == Some(Mode::Full) && terms.read_only_roles.contains(&caller.role) {
        let detail = format!("the policy lets the role `{}` act in mode `read_only` alone", caller.role);
        reasons.push(Reason::new(ReasonCode::ReadOnlyRequired, detail));
    }
    let reached = |count: i64, most: u32| most > 0 && count >= i64::from(most);
    if reached(usage.live, terms.max_live_per_actor) {
        let detail =
            format!("impersonations of yours that run already: {}, and the policy allows no more at once; log out of one", usage.live);
        reasons.push(Reason::new(ReasonCode::TooManyLive, detail));
    }
    if reached(usage.within_the_hour, terms.max_starts_per_hour) {
        let detail =
            format!("impersonations that you started within the last hour: {}, and the policy allows no more; wait", usage.within_the_hour);
        reasons.push(Reason::new(ReasonCode::TooManyStarts, detail));
    }
    reasons
}

/// The part of [`refusals`] that tells nothing about the subject: all that a caller learns who may not see users, whether
/// the subject exists or not.
pub fn caller_refusals(caller: &Principal, subject: UserId, posture: Posture, policy: &Policy) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if policy.freeze.is_some() && caller.role.holds(Permission::UsersImpersonate) {
        reasons.push(frozen());
    }
    if !caller.holds(Permission::UsersImpersonate) {
        reasons.push(if caller.role.holds(Permission::UsersImpersonate) {
            Reason::new(ReasonCode::InsufficientScope, "the token's scope lacks `users:impersonate`")
        } else {
            Reason::new(ReasonCode::MissingPermission, "you do not hold `users:impersonate`")
        });
    }
    if posture.nested {
        reasons.push(Reason::new(ReasonCode::Nested, "you already act as someone; log out of that impersonation first"));
    }
    if posture.exchanged {
        reasons
            .push(Reason::new(ReasonCode::ExchangedToken, "the token was exchanged for another one; such a token starts no impersonation"));
    }
    if caller.id() == subject {
        reasons.push(Reason::new(ReasonCode::SelfImpersonation, "you can't act as yourself"));
    }
    reasons
}

fn frozen() -> Reason {
    Reason::new(ReasonCode::Frozen, "impersonation is frozen; nobody acts as anybody until that is lifted")
}

/// The ceiling, asked again while an impersonation runs: why it must end now, if it must.
pub fn broken_ceiling(actor: &Principal, subject: &Principal, policy: &Policy) -> Option<EndCause> {
    if policy.freeze.is_some() {
        return Some(EndCause::Frozen);
    }
    if !actor.is_active() {
        return Some(EndCause::ActorDisabled);
    }
    let reasons = refusals(actor, subject, Posture::PLAIN, policy);
    let lost_the_right = reasons.iter().any(|reason| reason.code == ReasonCode::MissingPermission);
    match (reasons.is_empty(), lost_the_right) {
        (true, _) => None,
        (false, true) => Some(EndCause::ActorDemoted),
        (false, false) => Some(EndCause::SubjectChanged),
    }
}

/// The sentence on an entry made under impersonation.
pub fn note(subject: &UserRef, actor: &UserRef) -> String {
    format!("{} acting as {}", actor.display_name, subject.display_name)
}
