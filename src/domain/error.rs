//! What can go wrong, without a word about HTTP: the http floor has the one match from [`Code`] to a status.

use std::fmt;

use super::impersonation::EndCause;
use super::oauth::OAuthCode;
use super::role::Permission;
use super::string_enum;

string_enum! {
    /// A problem's stable name: its `code`, and the end of its `type`.
    #[schema(as = ProblemCode)]
    pub enum Code {
        MalformedRequest => "malformed_request",
        UnknownField => "unknown_field",
        UnknownParameter => "unknown_parameter",
        CredentialsMissing => "credentials_missing",
        InvalidCredentials => "invalid_credentials",
        InvalidToken => "invalid_token",
        TokenExpired => "token_expired",
        SessionEnded => "session_ended",
        ImpersonationEnded => "impersonation_ended",
        OriginalSessionEnded => "original_session_ended",
        RestoreProofRequired => "restore_proof_required",
        RefreshTokenInvalid => "refresh_token_invalid",
        RefreshTokenReused => "refresh_token_reused",
        MissingPermission => "missing_permission",
        InsufficientScope => "insufficient_scope",
        UserRequired => "user_required",
        ForbiddenUnderImpersonation => "forbidden_under_impersonation",
        ReadOnlyImpersonation => "read_only_impersonation",
        ImpersonationRefused => "impersonation_refused",
        OutsideGrant => "outside_grant",
        ActionRefused => "action_refused",
        NotFound => "not_found",
        MethodNotAllowed => "method_not_allowed",
        StatusForbids => "status_forbids",
        SettingPinned => "setting_pinned",
        ImpersonationLive => "impersonation_live",
        EmailTaken => "email_taken",
        LastAdministrator => "last_administrator",
        VersionMismatch => "version_mismatch",
        PayloadTooLarge => "payload_too_large",
        UnsupportedMediaType => "unsupported_media_type",
        InvalidRequest => "invalid_request",
        TooManyAttempts => "too_many_attempts",
        Internal => "internal",
        Overloaded => "overloaded",
        DatabaseUnavailable => "database_unavailable",
        RequestTimeout => "request_timeout",
    }
}

string_enum! {
    /// One reason why something is refused.
    pub enum ReasonCode {
        MissingPermission => "missing_permission",
        SelfImpersonation => "self",
        Nested => "nested",
        SubjectInactive => "subject_inactive",
        SubjectMayImpersonate => "subject_may_impersonate",
        SubjectOutranksCaller => "subject_outranks_caller",
        SubjectProtected => "subject_protected",
        Frozen => "frozen",
        ReadOnlyRequired => "read_only_required",
        TooManyLive => "too_many_live",
        TooManyStarts => "too_many_starts",
        AccountDisabled => "account_disabled",
        NotVisible => "not_visible",
        StatusForbids => "status_forbids",
        NotAuthor => "not_author",
        NotEditor => "not_editor",
        ConflictOfInterest => "conflict_of_interest",
        OwnAccount => "own_account",
        OutranksCaller => "outranks_caller",
        InsufficientScope => "insufficient_scope",
        ExchangedToken => "exchanged_token",
        FirstPartyClient => "first_party_client",
        OutsideGrant => "outside_grant",
        ForbiddenUnderImpersonation => "forbidden_under_impersonation",
    }
}

/// Why an action is refused: a stable code and a sentence that a support person can forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub code: ReasonCode,
    pub detail: String,
}

impl Reason {
    pub fn new(code: ReasonCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// What is wrong with one value of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// A JSON Pointer (RFC 6901) into the body, or a parameter's name.
    pub pointer: String,
    pub code: String,
    pub detail: String,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.into(), detail: detail.into() }
    }
}

/// A refusal or a failure. Small to move; never carries SQL, a stack, a hash or a token.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    reasons: Vec<Reason>,
    cause: Option<EndCause>,
    scope: Option<Permission>,
    oauth: Option<OAuthCode>,
    retry_after: Option<u32>,
    internal: Option<String>,
    transient: bool,
}

/// The result of everything that can be refused.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            reasons: Vec::new(),
            cause: None,
            scope: None,
            oauth: None,
            retry_after: None,
            internal: None,
            transient: false,
        }))
    }

    /// Something that should not happen. `what` is for the log; the caller learns nothing of it.
    pub fn internal(what: impl fmt::Display) -> Self {
        let mut error = Self::new(Code::Internal, "something went wrong on our side; the request id helps us to find it");
        error.0.internal = Some(what.to_string());
        error
    }

    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "there is nothing here that you may know of")
    }

    /// Missing or invalid values.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let mut error = Self::new(Code::InvalidRequest, "some values are missing or invalid; see `errors`");
        error.0.errors = errors;
        error
    }

    /// One missing or invalid value.
    pub fn invalid_field(pointer: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(pointer, code, detail)])
    }

    pub fn refused(code: Code, detail: impl Into<String>, reasons: Vec<Reason>) -> Self {
        let mut error = Self::new(code, detail);
        error.0.reasons = reasons;
        error
    }

    /// The caller's impersonation is over.
    pub fn impersonation_ended(cause: EndCause) -> Self {
        let mut error = Self::new(Code::ImpersonationEnded, format!("the impersonation is over: {cause}"));
        error.0.cause = Some(cause);
        error
    }

    /// The token's scope lacks what the user's role permits (RFC 6750 §3.1).
    pub fn insufficient_scope(permission: Permission) -> Self {
        let detail = format!("the token's scope lacks `{permission}`");
        let reasons = vec![Reason::new(ReasonCode::InsufficientScope, detail.clone())];
        Self::refused(Code::InsufficientScope, detail, reasons).with_scope(permission)
    }

    #[must_use]
    pub(super) fn with_scope(mut self, permission: Permission) -> Self {
        self.0.scope = Some(permission);
        self
    }

    /// A refusal of the OAuth endpoints. Elsewhere it would be a 422.
    pub fn oauth(code: OAuthCode, detail: impl Into<String>) -> Self {
        let mut error = Self::new(Code::InvalidRequest, detail);
        error.0.oauth = Some(code);
        error
    }

    pub fn too_many_attempts(retry_after: u32) -> Self {
        Self::new(Code::TooManyAttempts, "too many failed attempts; wait before the next one").retry_after(retry_after)
    }

    pub fn overloaded() -> Self {
        Self::new(Code::Overloaded, "too much to do right now; try again shortly").retry_after(1)
    }

    /// A write lost a race against another one; the same work may succeed when it is tried again. `what` is for the log.
    pub fn lost_race(what: impl fmt::Display) -> Self {
        let mut error = Self::overloaded();
        error.0.internal = Some(what.to_string());
        error.0.transient = true;
        error
    }

    /// `what` is for the log.
    pub fn database_unavailable(what: impl fmt::Display) -> Self {
        let mut error = Self::new(Code::DatabaseUnavailable, "the database can't be reached right now; try again shortly").retry_after(2);
        error.0.internal = Some(what.to_string());
        error
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    pub fn code(&self) -> Code {
        self.0.code
    }

    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    pub fn reasons(&self) -> &[Reason] {
        &self.0.reasons
    }

    pub fn cause(&self) -> Option<EndCause> {
        self.0.cause
    }

    /// What the token's scope lacks.
    pub fn scope(&self) -> Option<Permission> {
        self.0.scope
    }

    /// The refusal's code, where it is one of the OAuth endpoints.
    pub fn oauth_code(&self) -> Option<OAuthCode> {
        self.0.oauth
    }

    /// Seconds after which to try again.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.0.retry_after
    }

    /// Whether the same work may succeed at once when it is tried again.
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// What the log should say and the caller must not see.
    pub fn internal_detail(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.detail)?;
        for field in &self.0.errors {
            write!(f, "; {}: {}", field.pointer, field.detail)?;
        }
        match &self.0.internal {
            Some(internal) => write!(f, " ({internal})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
