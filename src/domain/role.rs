//! Roles and what they permit.

use super::string_enum;

string_enum! {
    /// A right, written `<resource>:<verb>`.
    pub enum Permission {
        ArticlesAssignEditor => "articles:assign_editor",
        ArticlesCreate => "articles:create",
        ArticlesEditAssigned => "articles:edit_assigned",
        ArticlesPublish => "articles:publish",
        ArticlesReadAll => "articles:read_all",
        ClientsRead => "clients:read",
        ClientsWrite => "clients:write",
        HistoryRead => "history:read",
        ImpersonationsEnd => "impersonations:end",
        ImpersonationsRead => "impersonations:read",
        ImpersonationsUndo => "impersonations:undo",
        PolicyRead => "policy:read",
        PolicyWrite => "policy:write",
        SessionsEnd => "sessions:end",
        UsersImpersonate => "users:impersonate",
        UsersRead => "users:read",
        UsersWrite => "users:write",
    }
}

impl Permission {
    /// Whether this is a right over other people's accounts and records. Nobody may act as, or change, someone who
    /// holds privileged permissions that they don't hold themselves.
    pub const fn is_privileged(self) -> bool {
        match self {
            Self::UsersRead
            | Self::UsersWrite
            | Self::UsersImpersonate
            | Self::ImpersonationsRead
            | Self::ImpersonationsEnd
            | Self::ImpersonationsUndo
            | Self::PolicyRead
            | Self::PolicyWrite
            | Self::SessionsEnd
            | Self::HistoryRead
            | Self::ClientsRead
            | Self::ClientsWrite => true,
            Self::ArticlesReadAll
            | Self::ArticlesAssignEditor
            | Self::ArticlesPublish
            | Self::ArticlesCreate
            | Self::ArticlesEditAssigned => false,
        }
    }
}

string_enum! {
    /// What a user is in the office. Each user has one.
    pub enum Role {
        Administrator => "administrator",
        Support => "support",
        Editor => "editor",
        Author => "author",
    }
}

impl Role {
    /// The permissions of this role, in alphabetical order.
    pub const fn permissions(self) -> &'static [Permission] {
        use Permission::{
            ArticlesAssignEditor, ArticlesCreate, ArticlesEditAssigned, ArticlesPublish, ArticlesReadAll, ClientsRead, ClientsWrite,
            HistoryRead, ImpersonationsEnd, ImpersonationsRead, ImpersonationsUndo, PolicyRead, PolicyWrite, SessionsEnd, UsersImpersonate,
            UsersRead, UsersWrite,
        };
        match self {
            Self::Administrator => &[
                ArticlesAssignEditor,
                ArticlesPublish,
                ArticlesReadAll,
                ClientsRead,
                ClientsWrite,
                HistoryRead,
                ImpersonationsEnd,
                ImpersonationsRead,
                ImpersonationsUndo,
                PolicyRead,
                PolicyWrite,
                SessionsEnd,
                UsersImpersonate,
                UsersRead,
                UsersWrite,
            ],
            Self::Support => &[ArticlesReadAll, ImpersonationsRead, UsersImpersonate, UsersRead],
            Self::Editor => &[ArticlesCreate, ArticlesEditAssigned],
            Self::Author => &[ArticlesCreate],
        }
    }

    /// Whether this role permits `permission`.
    pub fn holds(self, permission: Permission) -> bool {
        self.permissions().contains(&permission)
    }

    /// Whether `other` holds a privileged permission that this role does not.
    pub fn is_outranked_by(self, other: Self) -> bool {
        other.privileged().any(|permission| !self.holds(permission))
    }

    /// The permissions of this role that are privileged.
    pub fn privileged(self) -> impl Iterator<Item = Permission> {
        self.permissions().iter().copied().filter(|permission| permission.is_privileged())
    }
}
