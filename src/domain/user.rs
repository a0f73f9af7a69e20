//! Users: the people of the office.

use super::ids::UserId;
use super::role::{Permission, Role};
use super::scope::Scope;
use super::text::{DisplayName, Email};
use super::{Time, string_enum};

string_enum! {
    /// Whether a user may log in. Users are disabled, never deleted, so that the history keeps its people.
    pub enum UserStatus {
        Active => "active",
        Disabled => "disabled",
    }
}

/// A user's name tag: what an entry keeps of a person, as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRef {
    pub id: UserId,
    pub email: Email,
    pub display_name: DisplayName,
}

/// What the policy needs to know of a person to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub user: UserRef,
    pub role: Role,
    pub status: UserStatus,
    /// How far the token reaches with which this person is here; `None` is everything that the role permits.
    pub scope: Option<Scope>,
}

impl Principal {
    pub fn id(&self) -> UserId {
        self.user.id
    }

    pub fn is_active(&self) -> bool {
        self.status == UserStatus::Active
    }

    /// Whether the role permits it and the scope names it.
    pub fn holds(&self, permission: Permission) -> bool {
        self.role.holds(permission) && self.is_in_scope(permission)
    }

    /// Whether the scope names it, whatever the role permits.
    pub fn is_in_scope(&self, permission: Permission) -> bool {
        self.scope.is_none_or(|scope| scope.contains(permission))
    }

    /// All that this person may do here.
    pub fn rights(&self) -> Scope {
        let role = Scope::of_role(self.role);
        self.scope.map_or(role, |scope| scope.and(role))
    }
}

/// A user's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub email: Email,
    pub display_name: DisplayName,
    pub role: Role,
    pub status: UserStatus,
    /// Raised by one with every change.
    pub version: i64,
    pub created_at: Time,
    pub updated_at: Time,
}

impl User {
    pub fn to_ref(&self) -> UserRef {
        UserRef { id: self.id, email: self.email.clone(), display_name: self.display_name.clone() }
    }

    pub fn to_principal(&self) -> Principal {
        Principal { user: self.to_ref(), role: self.role, status: self.status, scope: None }
    }
}

/// A change of a user, as `PATCH /v1/users/{id}` asks for it. `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    pub email: Option<Email>,
    pub display_name: Option<DisplayName>,
    pub role: Option<Role>,
    pub status: Option<UserStatus>,
}
