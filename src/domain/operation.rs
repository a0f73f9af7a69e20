//! Every call that needs a caller, what it needs, and the one function that decides whether a caller may make it.

use super::client::ClientPrincipal;
use super::decision::{Action, Question, decide, outside_permissions, outside_resources, read_only, refused_by_policy};
use super::error::{Code, Error, Reason, ReasonCode, Result};
use super::identity::{Identity, user_required};
use super::impersonation::{Hold, Mode};
use super::role::Permission;
use super::role::Permission::{
    ArticlesCreate, ArticlesReadAll, ClientsRead, ClientsWrite, HistoryRead, ImpersonationsRead, ImpersonationsUndo, PolicyRead,
    PolicyWrite, SessionsEnd, UsersRead, UsersWrite,
};
use super::user::Principal;

/// What a call needs of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirements {
    /// The operation's name: its `operationId` in the document.
    pub id: &'static str,
    /// A permission without which nothing about the call is looked at. `None` where the resource itself decides.
    pub permission: Option<Permission>,
    /// Whether it may run under impersonation at all.
    pub under_impersonation: Under,
    /// Whether it changes something, so that a read-only impersonation can't make it.
    pub effect: Effect,
    /// Whether a narrower token may make it. Where a permission is required the scope decides; what requires none and is the user's own affair needs the
    /// user's own token.
    pub with_narrower_token: Narrower,
    /// What is left of it to an impersonation that was started for some resources alone.
    pub bound: Bound,
    /// What a client by itself needs in its scope. `None` where a user is needed: everything that changes something is done as a user.
    pub without_user: Option<Permission>,
}

impl Requirements {
    /// Whether this changes an account, its credentials, or somebody's sessions. Such calls are rare, and read what another of them may be changing: they run one
    /// after the other.
    pub fn concerns_accounts(&self) -> bool {
        self.under_impersonation == Under::Refused && self.effect == Effect::Mutates
    }

    /// Whether [`decide`] says what an impersonation withholds of it, together with all else that stands in the way.
    fn is_decided_with_article(&self) -> bool {
        matches!(self.effect, Effect::CreatesArticle | Effect::ChangesArticle)
    }
}

/// Whether a call may run under impersonation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Under {
    Allowed,
    Refused,
}

/// Whether a call may be made with a token that was exchanged for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Narrower {
    Suffices,
    Refused,
}

/// What an impersonation may do that was started for some resources alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// All of it: it is about no resource.
    Free,
    /// What is about its resources: the use case asks.
    Inside,
    /// None of it.
    Refused,
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Reads,
    Mutates,
    /// Makes a new article. [`decide`] decides on it, as of everything that is done with articles, and needs nothing else to know.
    CreatesArticle,
    /// Changes an article that is there. What an impersonation withholds of it is told together with everything else that stands in the way, so the use case
    /// asks [`decide`] with the article at hand.
    ChangesArticle,
    /// Ends the very session that makes it. Nothing may block that.
    EndsItself,
    /// Starts an impersonation. Its refusals are the use case's own, because they are recorded.
    StartsImpersonation,
}

/// An operation as a type, so that a handler names in its signature what it needs.
pub trait Operation: 'static {
    const REQUIREMENTS: Requirements;
}

macro_rules! operations {
    ($( $(#[$meta:meta])* $name:ident => $id:literal, $permission:expr, $under:ident, $effect:ident, $narrower:ident, $bound:ident, $without_user:expr; )+) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, Copy)]
            pub enum $name {}
            impl Operation for $name {
                const REQUIREMENTS: Requirements = Requirements {
                    id: $id,
                    permission: $permission,
                    under_impersonation: Under::$under,
                    effect: Effect::$effect,
                    with_narrower_token: Narrower::$narrower,
                    bound: Bound::$bound,
                    without_user: $without_user,
                };
            }
        )+

        /// Every operation that needs a caller.
        pub const ALL: &[Requirements] = &[$( $name::REQUIREMENTS ),+];
    };
}

operations! {
    // name => id, permission, under impersonation, effect, with a narrower token, with an impersonation bound to resources, what a client by itself needs
    LogOut => "log_out", None, Allowed, EndsItself, Suffices, Free, None;
    GetMe => "get_me", None, Allowed, Reads, Suffices, Free, None;
    ListMySessions => "list_my_sessions", None, Allowed, Reads, Refused, Refused, None;
    EndMySession => "end_my_session", None, Refused, Mutates, Refused, Refused, None;
    ListMyImpersonations => "list_my_impersonations", None, Allowed, Reads, Refused, Refused, None;
    ChangeMyPassword => "change_my_password", None, Refused, Mutates, Refused, Refused, None;
    /// That a narrower token starts nothing is the use case's own refusal, because it is recorded.
    StartImpersonation => "start_impersonation", None, Allowed, StartsImpersonation, Suffices, Free, None;
    ListImpersonations => "list_impersonations", Some(ImpersonationsRead), Allowed, Reads, Suffices, Refused, Some(ImpersonationsRead);
    /// Its actor and its subject may see it too, so the use case decides.
    GetImpersonation => "get_impersonation", None, Allowed, Reads, Suffices, Refused, Some(ImpersonationsRead);
    /// Its actor, its subject, or a holder of `impersonations:end`: the use case decides.
    EndImpersonation => "end_impersonation", None, Refused, Mutates, Refused, Refused, None;
    ListUsers => "list_users", Some(UsersRead), Allowed, Reads, Suffices, Refused, Some(UsersRead);
    GetUser => "get_user", Some(UsersRead), Allowed, Reads, Suffices, Refused, Some(UsersRead);
    CreateUser => "create_user", Some(UsersWrite), Refused, Mutates, Suffices, Refused, None;
    /// Who gets one can take the account over, and with it more than a narrower token names.
    RenewSetupToken => "renew_setup_token", Some(UsersWrite), Refused, Mutates, Refused, Refused, None;
    UpdateUser => "update_user", Some(UsersWrite), Refused, Mutates, Suffices, Refused, None;
    EndUserSessions => "end_user_sessions", Some(SessionsEnd), Refused, Mutates, Suffices, Refused, None;
    ListArticles => "list_articles", None, Allowed, Reads, Suffices, Inside, Some(ArticlesReadAll);
    CreateArticle => "create_article", Some(ArticlesCreate), Allowed, CreatesArticle, Suffices, Refused, None;
    GetArticle => "get_article", None, Allowed, Reads, Suffices, Inside, Some(ArticlesReadAll);
    /// What a scope has to name follows from the action, so the decision asks.
    UpdateArticle => "update_article", None, Allowed, ChangesArticle, Suffices, Inside, None;
    DeleteArticle => "delete_article", None, Allowed, ChangesArticle, Suffices, Inside, None;
    ActOnArticle => "act_on_article", None, Allowed, ChangesArticle, Suffices, Inside, None;
    ListArticleHistory => "list_article_history", None, Allowed, Reads, Suffices, Inside, Some(ArticlesReadAll);
    ListHistory => "list_history", Some(HistoryRead), Allowed, Reads, Suffices, Refused, Some(HistoryRead);
    /// Why a user can or can't.
    ExplainUser => "explain_user", Some(UsersRead), Allowed, Reads, Suffices, Refused, Some(UsersRead);
    ExplainMe => "explain_me", None, Allowed, Reads, Suffices, Inside, None;
    GetPolicy => "get_policy", Some(PolicyRead), Refused, Reads, Suffices, Refused, None;
    UpdatePolicy => "update_policy", Some(PolicyWrite), Refused, Mutates, Suffices, Refused, None;
    FreezePolicy => "freeze_policy", Some(PolicyWrite), Refused, Mutates, Suffices, Refused, None;
    UnfreezePolicy => "unfreeze_policy", Some(PolicyWrite), Refused, Mutates, Suffices, Refused, None;
    UndoImpersonation => "undo_impersonation", Some(ImpersonationsUndo), Refused, Mutates, Suffices, Refused, None;
    ListClients => "list_clients", Some(ClientsRead), Refused, Reads, Suffices, Refused, None;
    GetClient => "get_client", Some(ClientsRead), Refused, Reads, Suffices, Refused, None;
    /// A client may have more than a narrower token names, so making and changing one takes the user's own.
    CreateClient => "create_client", Some(ClientsWrite), Refused, Mutates, Refused, Refused, None;
    UpdateClient => "update_client", Some(ClientsWrite), Refused, Mutates, Refused, Refused, None;
    RotateClientSecret => "rotate_client_secret", Some(ClientsWrite), Refused, Mutates, Refused, Refused, None;
}

/// Exchanging a token for a narrower one. The token endpoint's, so no call of the API; a read-only impersonation may do it too, because it gives nobody more.
pub const EXCHANGE_TOKEN: Requirements = Requirements {
    id: "exchange_token",
    permission: None,
    under_impersonation: Under::Allowed,
    effect: Effect::Reads,
    with_narrower_token: Narrower::Suffices,
    bound: Bound::Free,
    without_user: None,
};

/// Decides whether `identity` may make a call with these `requirements`. Asked before a handler runs, and again inside the transaction of every write.
///
/// # Errors
/// 403 `forbidden_under_impersonation`, `read_only_impersonation`, `outside_grant`, `insufficient_scope` or `missing_permission`, with every reason that holds.
pub fn permit(identity: &Identity, requirements: &Requirements) -> Result<()> {
    let mut refusals = Refusals::default();
    let subject = identity.subject();
    if let Some(hold) = identity.hold() {
        if requirements.under_impersonation == Under::Refused {
            refusals.add(
                Code::ForbiddenUnderImpersonation,
                ReasonCode::ForbiddenUnderImpersonation,
                "this is not possible while acting as someone; log out of the impersonation first",
            );
        } else if !requirements.is_decided_with_article() {
            hold_back(&mut refusals, &hold, requirements, subject);
        }
    }
    if identity.exchange().is_some() && requirements.with_narrower_token == Narrower::Refused {
        refusals.add(Code::InsufficientScope, ReasonCode::InsufficientScope, "a narrower token can't do this; it needs the user's own");
    }
    let permitted = if requirements.effect == Effect::CreatesArticle {
        decide(Question::of_user(subject, Action::Create, None).under(identity.hold())).require().map(drop)
    } else {
        requirements.permission.map_or(Ok(()), |permission| require(subject, permission))
    };
    match permitted {
        Ok(()) => refusals.into_result(),
        Err(error) if refusals.first.is_none() => Err(error),
        Err(error) => {
            refusals.reasons.splice(0..0, error.reasons().iter().cloned());
            refusals.into_result()
        }
    }
}

/// What an impersonation withholds of a call.
fn hold_back(refusals: &mut Refusals, hold: &Hold<'_>, requirements: &Requirements, subject: &Principal) {
    let is_ending = requirements.effect == Effect::EndsItself;
    if hold.bounds.articles.is_some() && requirements.bound == Bound::Refused {
        refusals.add(Code::OutsideGrant, ReasonCode::OutsideGrant, outside_resources());
    }
    // What the role does not permit, no grant would.
    let needed = requirements.permission.filter(|permission| subject.role.holds(*permission));
    if let Some(permission) = needed.filter(|permission| !hold.bounds.permit(*permission)) {
        refusals.add(Code::OutsideGrant, ReasonCode::OutsideGrant, outside_permissions(permission.as_str()));
    }
    if requirements.effect == Effect::Mutates && hold.mode == Mode::ReadOnly {
        refusals.prefer(Code::ReadOnlyImpersonation, ReasonCode::OutsideGrant, read_only());
    }
    if !is_ending && hold.policy.refuses_call(requirements.id) {
        refusals.prefer(Code::ForbiddenUnderImpersonation, ReasonCode::ForbiddenUnderImpersonation, refused_by_policy(requirements.id));
    }
}

/// Every reason for a refusal, and the first of its codes.
#[derive(Default)]
struct Refusals {
    first: Option<(Code, String)>,
    reasons: Vec<Reason>,
}

impl Refusals {
    fn add(&mut self, code: Code, reason: ReasonCode, detail: impl Into<String>) {
        let detail = detail.into();
        self.first.get_or_insert_with(|| (code, detail.clone()));
        self.reasons.push(Reason::new(reason, detail));
    }

    /// Adds what says more than what came before.
    fn prefer(&mut self, code: Code, reason: ReasonCode, detail: impl Into<String>) {
        self.first = None;
        self.add(code, reason, detail);
    }

    fn into_result(self) -> Result<()> {
        match self.first {
            None => Ok(()),
            Some((code, detail)) => Err(Error::refused(code, detail, self.reasons)),
        }
    }
}

/// Decides whether a client by itself may make a call with these `requirements`.
///
/// # Errors
/// 403 `user_required` or `insufficient_scope`.
pub fn permit_client(client: &ClientPrincipal, requirements: &Requirements) -> Result<()> {
    match requirements.without_user {
        None => Err(user_required()),
        Some(permission) if client.scope.contains(permission) => Ok(()),
        Some(permission) => Err(Error::insufficient_scope(permission)),
    }
}

/// Whether somebody holds a permission.
///
/// # Errors
/// 403 `missing_permission` where the role does not permit it, `insufficient_scope` where only the token's scope lacks it.
pub fn require(who: &Principal, permission: Permission) -> Result<()> {
    if who.holds(permission) {
        Ok(())
    } else if who.role.holds(permission) {
        Err(Error::insufficient_scope(permission))
    } else {
        Err(missing_permission(permission))
    }
}

/// 403 `missing_permission`, naming the permission.
pub fn missing_permission(permission: Permission) -> Error {
    let detail = format!("you do not hold `{permission}`");
    Error::refused(Code::MissingPermission, detail.clone(), vec![Reason::new(ReasonCode::MissingPermission, detail)])
}
