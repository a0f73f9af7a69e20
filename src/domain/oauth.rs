//! What the token endpoint and its neighbours say when they refuse (RFC 6749 §5.2, RFC 8693 §2.2.2).

use super::string_enum;

string_enum! {
    /// An error code of the OAuth endpoints.
    #[schema(as = OAuthErrorCode)]
    pub enum OAuthCode {
        /// A parameter is missing, there twice or wrong; also a token that is presented for an exchange and is of no use (RFC 8693 §2.2.2).
        InvalidRequest => "invalid_request",
        /// The client did not prove who it is.
        InvalidClient => "invalid_client",
        /// A refresh token is of no use, or another client's.
        InvalidGrant => "invalid_grant",
        /// The client may not use this grant.
        UnauthorizedClient => "unauthorized_client",
        UnsupportedGrantType => "unsupported_grant_type",
        /// The scope is unknown, or wider than what can be given.
        InvalidScope => "invalid_scope",
        /// The audience or the resource is none that the client may have tokens for.
        InvalidTarget => "invalid_target",
        /// RFC 9396 §5.
        InvalidAuthorizationDetails => "invalid_authorization_details",
    }
}
