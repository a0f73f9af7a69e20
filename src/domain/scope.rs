//! Scopes (RFC 6749 §3.3): how far a token reaches. A scope is a set of permissions, written as their names with spaces between.

use std::fmt;

use super::role::{Permission, Role};

/// A set of permissions. It gives nothing: what its holder may do is what the role permits *and* the scope names.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope(u32);

/// A word in a scope that names no permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope names permissions, with one space between them")]
pub struct UnknownScope;

impl Scope {
    /// No permission at all. A token with it still says who somebody is.
    pub const EMPTY: Self = Self(0);

    /// Every permission.
    pub fn all() -> Self {
        Permission::ALL.iter().copied().collect()
    }

    /// What a role permits.
    pub fn of_role(role: Role) -> Self {
        role.permissions().iter().copied().collect()
    }

    /// Reads names with single spaces between; an empty text is the empty scope.
    ///
    /// # Errors
    /// [`UnknownScope`] for a word that is no permission's name, and for any other white space.
    pub fn parse(text: &str) -> Result<Self, UnknownScope> {
        if text.is_empty() {
            return Ok(Self::EMPTY);
        }
        text.split(' ').map(|word| Permission::parse(word).ok_or(UnknownScope)).collect()
    }

    /// Reads what was written to the database. A word that this version doesn't know permits nothing.
    pub fn from_stored(text: &str) -> Self {
        text.split(' ').filter_map(Permission::parse).collect()
    }

    pub fn contains(self, permission: Permission) -> bool {
        self.0 & bit(permission) != 0
    }

    /// What both name.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `other` names all that this names.
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The permissions, in alphabetical order.
    pub fn permissions(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.contains(*permission))
    }
}

const fn bit(permission: Permission) -> u32 {
    1 << permission as u32
}

impl FromIterator<Permission> for Scope {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, permission| bits | bit(permission)))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, permission) in self.permissions().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}{permission}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_reads_what_it_writes_in_one_order() {
        let scope = Scope::parse("users:read articles:create users:read").unwrap();
        assert_eq!(scope.to_string(), "articles:create users:read");
        assert_eq!(Scope::parse(&scope.to_string()), Ok(scope));
        assert_eq!(Scope::parse(""), Ok(Scope::EMPTY));
        assert_eq!(Scope::parse(&Scope::all().to_string()), Ok(Scope::all()));
        for bad in ["users:Read", "users:read ", " users:read", "users:read  users:write", "openid", "users:read\tusers:write", "*"] {
            assert_eq!(Scope::parse(bad), Err(UnknownScope), "{bad:?}");
        }
    }

    #[test]
    fn every_permission_has_a_bit_of_its_own() {
        for permission in Permission::ALL {
            let alone: Scope = [*permission].into_iter().collect();
            assert_eq!(alone.permissions().collect::<Vec<_>>(), [*permission]);
            assert!(alone.is_within(Scope::all()) && !Scope::all().is_within(alone));
        }
    }
}
