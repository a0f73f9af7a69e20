//! Every call that needs a caller, what it needs, and the one function that decides whether a caller may make it.

use super::client::ClientPrincipal;
use super::error::{Code, Error, Reason, ReasonCode, Result};
use super::identity::{Identity, user_required};
use super::impersonation::Mode;
use super::role::Permission;
use super::role::Permission::{
    ArticlesCreate, ArticlesReadAll, ClientsRead, ClientsWrite, HistoryRead, ImpersonationsRead, SessionsEnd, UsersRead, UsersWrite,
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
    /// What a client by itself needs in its scope. `None` where a user is needed: everything that changes something is done as a user.
    pub without_user: Option<Permission>,
}

impl Requirements {
    /// Whether this changes an account, its credentials, or somebody's sessions. Such calls are rare, and read what another of them may be changing: they run one
    /// after the other.
    pub fn concerns_accounts(&self) -> bool {
        self.under_impersonation == Under::Refused && self.effect == Effect::Mutates
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

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Reads,
    Mutates,
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
    ($( $(#[$meta:meta])* $name:ident => $id:literal, $permission:expr, $under:ident, $effect:ident, $narrower:ident, $without_user:expr; )+) => {
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
                    without_user: $without_user,
                };
            }
        )+

        /// Every operation that needs a caller.
        pub const ALL: &[Requirements] = &[$( $name::REQUIREMENTS ),+];
    };
}

operations! {
    // name => id, permission, under impersonation, effect, with a narrower token, what a client by itself needs
    LogOut => "log_out", None, Allowed, EndsItself, Suffices, None;
    GetMe => "get_me", None, Allowed, Reads, Suffices, None;
    ListMySessions => "list_my_sessions", None, Allowed, Reads, Refused, None;
    EndMySession => "end_my_session", None, Refused, Mutates, Refused, None;
    ListMyImpersonations => "list_my_impersonations", None, Allowed, Reads, Refused, None;
    ChangeMyPassword => "change_my_password", None, Refused, Mutates, Refused, None;
    /// That a narrower token starts nothing is the use case's own refusal, because it is recorded.
    StartImpersonation => "start_impersonation", None, Allowed, StartsImpersonation, Suffices, None;
    ListImpersonations => "list_impersonations", Some(ImpersonationsRead), Allowed, Reads, Suffices, Some(ImpersonationsRead);
    /// Its actor and its subject may see it too, so the use case decides.
    GetImpersonation => "get_impersonation", None, Allowed, Reads, Suffices, Some(ImpersonationsRead);
    /// Its actor, its subject, or a holder of `impersonations:end`: the use case decides.
    EndImpersonation => "end_impersonation", None, Refused, Mutates, Refused, None;
    ListUsers => "list_users", Some(UsersRead), Allowed, Reads, Suffices, Some(UsersRead);
    GetUser => "get_user", Some(UsersRead), Allowed, Reads, Suffices, Some(UsersRead);
    CreateUser => "create_user", Some(UsersWrite), Refused, Mutates, Suffices, None;
    /// Who gets one can take the account over, and with it more than a narrower token names.
    RenewSetupToken => "renew_setup_token", Some(UsersWrite), Refused, Mutates, Refused, None;
    UpdateUser => "update_user", Some(UsersWrite), Refused, Mutates, Suffices, None;
    EndUserSessions => "end_user_sessions", Some(SessionsEnd), Refused, Mutates, Suffices, None;
    ListArticles => "list_articles", None, Allowed, Reads, Suffices, Some(ArticlesReadAll);
    CreateArticle => "create_article", Some(ArticlesCreate), Allowed, Mutates, Suffices, None;
    GetArticle => "get_article", None, Allowed, Reads, Suffices, Some(ArticlesReadAll);
    /// What a scope has to name follows from the action, so the assessment decides.
    UpdateArticle => "update_article", None, Allowed, Mutates, Suffices, None;
    DeleteArticle => "delete_article", None, Allowed, Mutates, Suffices, None;
    ActOnArticle => "act_on_article", None, Allowed, Mutates, Suffices, None;
    ListArticleHistory => "list_article_history", None, Allowed, Reads, Suffices, Some(ArticlesReadAll);
    ListHistory => "list_history", Some(HistoryRead), Allowed, Reads, Suffices, Some(HistoryRead);
    ListClients => "list_clients", Some(ClientsRead), Refused, Reads, Suffices, None;
    GetClient => "get_client", Some(ClientsRead), Refused, Reads, Suffices, None;
    /// A client may have more than a narrower token names, so making and changing one takes the user's own.
    CreateClient => "create_client", Some(ClientsWrite), Refused, Mutates, Refused, None;
    UpdateClient => "update_client", Some(ClientsWrite), Refused, Mutates, Refused, None;
    RotateClientSecret => "rotate_client_secret", Some(ClientsWrite), Refused, Mutates, Refused, None;
}

/// Exchanging a token for a narrower one. The token endpoint's, so no call of the API; a read-only impersonation may do it too, because it gives nobody more.
pub const EXCHANGE_TOKEN: Requirements = Requirements {
    id: "exchange_token",
    permission: None,
    under_impersonation: Under::Allowed,
    effect: Effect::Reads,
    with_narrower_token: Narrower::Suffices,
    without_user: None,
};

/// Decides whether `identity` may make a call with these `requirements`. Asked before a handler runs, and again inside the transaction of every write.
///
/// # Errors
/// 403 `forbidden_under_impersonation`, `read_only_impersonation`, `insufficient_scope` or `missing_permission`.
pub fn permit(identity: &Identity, requirements: &Requirements) -> Result<()> {
    if let Some(acting) = identity.session().acting_as() {
        if requirements.under_impersonation == Under::Refused {
            return Err(Error::new(
                Code::ForbiddenUnderImpersonation,
                "this is not possible while acting as someone; log out of the impersonation first",
            ));
        }
        if requirements.effect == Effect::Mutates && acting.grant.mode == Mode::ReadOnly {
            return Err(Error::new(Code::ReadOnlyImpersonation, "this impersonation is read-only"));
        }
    }
    if identity.exchange().is_some() && requirements.with_narrower_token == Narrower::Refused {
        return Err(Error::new(Code::InsufficientScope, "a narrower token can't do this; it needs the user's own"));
    }
    requirements.permission.map_or(Ok(()), |permission| require(identity.subject(), permission))
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
