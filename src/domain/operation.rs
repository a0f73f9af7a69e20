//! Every call that needs a caller, what it needs, and the one function that decides whether a caller may make it.

use super::error::{Code, Error, Reason, ReasonCode, Result};
use super::identity::Identity;
use super::impersonation::Mode;
use super::role::Permission;

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
    ($( $(#[$meta:meta])* $name:ident => $id:literal, $permission:expr, $under:ident, $effect:ident; )+) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, Copy)]
            pub enum $name {}
            impl Operation for $name {
                const REQUIREMENTS: Requirements = Requirements {
                    id: $id, permission: $permission, under_impersonation: Under::$under, effect: Effect::$effect,
                };
            }
        )+

        /// Every operation that needs a caller.
        pub const ALL: &[Requirements] = &[$( $name::REQUIREMENTS ),+];
    };
}

operations! {
    LogOut => "log_out", None, Allowed, EndsItself;
    GetMe => "get_me", None, Allowed, Reads;
    ListMySessions => "list_my_sessions", None, Allowed, Reads;
    EndMySession => "end_my_session", None, Refused, Mutates;
    ListMyImpersonations => "list_my_impersonations", None, Allowed, Reads;
    ChangeMyPassword => "change_my_password", None, Refused, Mutates;
    StartImpersonation => "start_impersonation", None, Allowed, StartsImpersonation;
    ListImpersonations => "list_impersonations", Some(Permission::ImpersonationsRead), Allowed, Reads;
    /// Its actor and its subject may see it too, so the use case decides.
    GetImpersonation => "get_impersonation", None, Allowed, Reads;
    /// Its actor, its subject, or a holder of `impersonations:end`: the use case decides.
    EndImpersonation => "end_impersonation", None, Refused, Mutates;
    ListUsers => "list_users", Some(Permission::UsersRead), Allowed, Reads;
    GetUser => "get_user", Some(Permission::UsersRead), Allowed, Reads;
    CreateUser => "create_user", Some(Permission::UsersWrite), Refused, Mutates;
    RenewSetupToken => "renew_setup_token", Some(Permission::UsersWrite), Refused, Mutates;
    UpdateUser => "update_user", Some(Permission::UsersWrite), Refused, Mutates;
    EndUserSessions => "end_user_sessions", Some(Permission::SessionsEnd), Refused, Mutates;
    ListArticles => "list_articles", None, Allowed, Reads;
    CreateArticle => "create_article", Some(Permission::ArticlesCreate), Allowed, Mutates;
    GetArticle => "get_article", None, Allowed, Reads;
    UpdateArticle => "update_article", None, Allowed, Mutates;
    DeleteArticle => "delete_article", None, Allowed, Mutates;
    ActOnArticle => "act_on_article", None, Allowed, Mutates;
    ListArticleHistory => "list_article_history", None, Allowed, Reads;
    ListHistory => "list_history", Some(Permission::HistoryRead), Allowed, Reads;
}

/// Decides whether `identity` may make a call with these `requirements`. Asked before a handler runs, and again inside the transaction of every write.
///
/// # Errors
/// 403 `forbidden_under_impersonation`, `read_only_impersonation` or `missing_permission`.
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
    match requirements.permission {
        Some(permission) if !identity.subject().holds(permission) => Err(missing_permission(permission)),
        _ => Ok(()),
    }
}

/// 403 `missing_permission`, naming the permission.
pub fn missing_permission(permission: Permission) -> Error {
    let detail = format!("you do not hold `{permission}`");
    Error::refused(Code::MissingPermission, detail.clone(), vec![Reason::new(ReasonCode::MissingPermission, detail)])
}
