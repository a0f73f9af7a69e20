//! The OpenAPI document, made from the same routes that are served.
//!
//! A route says what is its own: summary, input, success. What follows from rules is added here, once for all: which problems an operation can
//! answer, the headers that answers carry, and what it needs of its caller.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::http::StatusCode;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::{AllOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, Content, ContentBuilder, Header, InfoBuilder, LicenseBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
    ServerBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use super::problem::{PROBLEM_JSON, Problem, ProblemDocument, status, title};
use crate::domain::error::{Code, Error, FieldError, Reason, ReasonCode};
use crate::domain::identity::user_required;
use crate::domain::impersonation::EndCause;
use crate::domain::operation::{self, Bound, Effect, Narrower, Requirements, Under, missing_permission};
use crate::domain::role::Permission;

const DESCRIPTION: &str = "\
User impersonation: act as a user, on the record, and back.

Log in with `POST /v1/auth/login`, act as a user with `POST /v1/users/{id}/impersonate`, and come back with `POST /v1/auth/logout`, which answers the original \
token. Whatever is done in between has two names in the history.

Every error is a problem (RFC 9457) whose `code` says what went wrong; treat one that you don't know by its status. Ignore members of answers that you don't \
know. An address that does not know a method answers 405 `method_not_allowed` with `Allow`, an unknown address 404 `not_found`.";

const TAGS: [(&str, &str); 10] = [
    ("auth", "Logging in and out, and staying logged in"),
    ("me", "Oneself: who am I, and as whom; my sessions; who was in my account"),
    ("impersonations", "Acting as a user: starting, watching, ending, undoing"),
    ("policy", "How far impersonation goes, and the freeze that ends all of it"),
    ("users", "Accounts"),
    ("clients", "The programs that may ask for tokens"),
    ("articles", "Articles and the editorial workflow"),
    ("history", "Who did what, when, and who it really was"),
    ("oauth", "For standard OAuth clients: tokens for other services, narrower ones, and whether one still counts"),
    ("ops", "For whoever runs it: alive, ready, metrics"),
];

/// Completes the document that the routes made.
pub fn complete(mut document: OpenApi) -> OpenApi {
    let license = LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).identifier(Some(env!("CARGO_PKG_LICENSE"))).build();
    document.info =
        InfoBuilder::new().title("Actas").version(env!("CARGO_PKG_VERSION")).description(Some(DESCRIPTION)).license(Some(license)).build();
    // Relative to the document, so that a proxy's path prefix does no harm.
    document.servers = Some(vec![ServerBuilder::new().url(".").description(Some("Where this document is served")).build()]);
    let mut components = document.components.take().unwrap_or_default();
    add_common(&mut components);
    let mut used_tags = BTreeSet::new();
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            used_tags.extend(operation.tags.iter().flatten().cloned());
            complete_operation(path, operation, &mut components);
        }
    }
    let tags = TAGS.iter().filter(|(name, _)| used_tags.contains(*name));
    document.tags = Some(tags.map(|(name, description)| TagBuilder::new().name(*name).description(Some(*description)).build()).collect());
    document.components = Some(components);
    document
}

/// The document as it is committed and served.
///
/// # Errors
/// What the serializer says; none is known.
pub fn to_json(document: &OpenApi) -> serde_json::Result<String> {
    serde_json::to_string_pretty(document).map(|json| json + "\n")
}

fn add_common(components: &mut Components) {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("The `access_token` of a grant, in the `Authorization` header and nowhere else."));
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    let client = HttpBuilder::new().scheme(HttpAuthScheme::Basic).description(Some(
        "A client's id and secret, each form-encoded (RFC 6749 section 2.3.1). Or `client_id` and `client_secret` in the body; or, for the public client \
         `actas`, `client_id` alone.",
    ));
    components.add_security_scheme("client", SecurityScheme::Http(client.build()));
    let mut schemas = vec![(ProblemDocument::name().into_owned(), ProblemDocument::schema())];
    ProblemDocument::schemas(&mut schemas);
    components.schemas.extend(schemas);
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
}

fn complete_operation(path: &str, operation: &mut Operation, components: &mut Components) {
    let id = operation.operation_id.clone().unwrap_or_default();
    let requirements = operation::ALL.iter().find(|requirements| requirements.id == id);
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            complete_parameter(parameter);
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        complete_body(body);
    }
    operation.description = Some(description(operation.description.as_deref().unwrap_or_default(), requirements));
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            add_headers(response, requirements.is_some());
        }
    }
    if path.starts_with("/oauth/") {
        complete_oauth(operation);
    }
    let facts = Facts::of(path, operation);
    if facts.is_listing
        && let Some(RefOr::T(page)) = operation.responses.responses.get_mut("200")
    {
        page.headers.insert(
            "Link".to_owned(),
            text_header("The next page (RFC 8288), unless this is the last", "<?cursor=aDo0Mg>; rel=\"next\"").into(),
        );
    }
    let mut by_status: BTreeMap<StatusCode, Vec<Code>> = BTreeMap::new();
    for code in facts.codes(&id, requirements) {
        by_status.entry(status(code)).or_default().push(code);
    }
    for (status, codes) in by_status {
        if let Some(RefOr::T(own)) = operation.responses.responses.get_mut(status.as_str()) {
            // The OAuth endpoints have refusals of their own kind beside those that every address has.
            own.content.extend(problem_response(status, &codes, false).content);
            continue;
        }
        let name = response_name(&id, status, &codes);
        components.responses.entry(name.clone()).or_insert_with(|| problem_response(status, &codes, requirements.is_some()).into());
        operation.responses.responses.insert(status.as_str().to_owned(), Ref::from_response_name(&name).into());
    }
}

/// The doc comment's paragraphs on a line each, and what the operation needs.
fn description(text: &str, requirements: Option<&Requirements>) -> String {
    let mut paragraphs: Vec<String> =
        text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).filter(|text| !text.is_empty()).collect();
    let permission = requirements.and_then(|requirements| requirements.permission).map(|permission| format!("Needs `{permission}`."));
    let under = requirements.and_then(|requirements| match (requirements.under_impersonation, requirements.effect) {
        (Under::Refused, _) => Some("Refused under impersonation."),
        (Under::Allowed, Effect::Mutates | Effect::CreatesArticle | Effect::ChangesArticle) => {
            Some("Refused under a read-only impersonation.")
        }
        (Under::Allowed, Effect::Reads | Effect::EndsItself | Effect::StartsImpersonation) => None,
    });
    let narrower = requirements.filter(|requirements| requirements.with_narrower_token == Narrower::Refused);
    let narrower = narrower.map(|_| "Needs the user's own token, not a narrower one.");
    let service = requirements.and_then(|requirements| requirements.without_user);
    let service = service.map(|permission| format!("A client by itself needs the scope `{permission}`."));
    let needs: Vec<&str> = permission.as_deref().into_iter().chain(under).chain(narrower).chain(service.as_deref()).collect();
    if !needs.is_empty() {
        paragraphs.push(needs.join(" "));
    }
    paragraphs.join("\n\n")
}

fn complete_parameter(parameter: &mut Parameter) {
    if parameter.parameter_in == ParameterIn::Header && parameter.name == "If-Match" {
        // A header is never null.
        let tag = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("`*`, or a list of entity tags"))
            .pattern(Some(r#"^(\*|(W/)?"[!#-~]*"(, *(W/)?"[!#-~]*")*)$"#))
            .examples(["\"3\""]);
        parameter.schema = Some(tag.into());
        parameter.required = Required::False;
    }
}

/// The headers of RFC 6749 §5.
fn complete_oauth(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        response.headers.insert("Cache-Control".to_owned(), text_header("Nobody may keep it", "no-store").into());
        if status == "401" {
            response.headers.insert("WWW-Authenticate".to_owned(), text_header("How to authenticate", "Basic realm=\"actas\"").into());
        }
    }
}

/// A body that may be left out is one that may not be there, and not one that may be null.
fn complete_body(body: &mut RequestBody) {
    for content in body.content.values_mut() {
        let RefOr::T(Content { schema: Some(schema), .. }) = content else { continue };
        let RefOr::T(Schema::OneOf(alternatives)) = schema else { continue };
        if let [only @ RefOr::Ref(_), RefOr::T(Schema::Object(_))] = &alternatives.items[..] {
            *schema = only.clone();
            body.required = Some(Required::False);
        }
    }
}

/// What can be read from an operation's description of its input.
struct Facts {
    is_api: bool,
    is_oauth: bool,
    has_id: bool,
    has_body: bool,
    has_query: bool,
    is_listing: bool,
    has_precondition: bool,
}

impl Facts {
    fn of(path: &str, operation: &Operation) -> Self {
        let has = |wanted: &dyn Fn(&Parameter) -> bool| {
            operation.parameters.iter().flatten().any(|parameter| matches!(parameter, RefOr::T(parameter) if wanted(parameter)))
        };
        Self {
            is_api: path.starts_with("/v1/"),
            is_oauth: path.starts_with("/oauth/"),
            has_id: path.contains("{id}"),
            has_body: operation.request_body.is_some(),
            has_query: has(&|parameter| parameter.parameter_in == ParameterIn::Query),
            is_listing: has(&|parameter| parameter.name == "cursor"),
            has_precondition: has(&|parameter| parameter.name == "If-Match"),
        }
    }

    /// Every code that the operation can answer, in the order in which [`Code`] has them.
    fn codes(&self, id: &str, requirements: Option<&Requirements>) -> BTreeSet<Code> {
        let mut codes = BTreeSet::from([Code::MalformedRequest, Code::UnknownParameter, Code::Internal, Code::Overloaded]);
        let mut add = |applies: bool, more: &[Code]| {
            if applies {
                codes.extend(more);
            }
        };
        add(self.is_api || self.is_oauth, &[Code::DatabaseUnavailable]);
        add(self.has_id, &[Code::NotFound]);
        add(self.has_body, &[Code::RequestTimeout, Code::PayloadTooLarge]);
        add(self.has_body && !self.is_oauth, &[Code::UnknownField, Code::UnsupportedMediaType, Code::InvalidRequest]);
        add(self.has_query, &[Code::InvalidRequest]);
        add(self.has_precondition, &[Code::VersionMismatch]);
        add(
            requirements.is_some(),
            &[Code::CredentialsMissing, Code::InvalidToken, Code::TokenExpired, Code::SessionEnded, Code::ImpersonationEnded],
        );
        if let Some(Requirements { permission, under_impersonation, effect, with_narrower_token, bound, without_user, .. }) = requirements {
            add(permission.is_some(), &[Code::MissingPermission]);
            let asks_scope = permission.is_some() || without_user.is_some() || *with_narrower_token == Narrower::Refused;
            add(asks_scope, &[Code::InsufficientScope]);
            add(without_user.is_none(), &[Code::UserRequired]);
            add(*under_impersonation == Under::Refused, &[Code::ForbiddenUnderImpersonation]);
            let changes = matches!(effect, Effect::Mutates | Effect::CreatesArticle | Effect::ChangesArticle);
            add(*under_impersonation == Under::Allowed && changes, &[Code::ReadOnlyImpersonation]);
            // What may run under impersonation at all, the policy may refuse, and a start may leave out.
            let is_withheld = *under_impersonation == Under::Allowed && !matches!(effect, Effect::EndsItself | Effect::StartsImpersonation);
            add(is_withheld, &[Code::ForbiddenUnderImpersonation]);
            add(is_withheld && (*bound != Bound::Free || permission.is_some()), &[Code::OutsideGrant]);
        }
        add(true, own_codes(id));
        codes
    }
}

/// What an operation can answer beyond what follows from its requirements and its input.
fn own_codes(id: &str) -> &'static [Code] {
    match id {
        "log_in" | "change_my_password" => &[Code::InvalidCredentials, Code::TooManyAttempts],
        "refresh" => &[Code::SessionEnded, Code::RefreshTokenInvalid, Code::RefreshTokenReused],
        "log_out" => &[Code::OriginalSessionEnded, Code::RestoreProofRequired],
        "set_password" => &[Code::InvalidCredentials],
        "start_impersonation" => &[Code::ImpersonationRefused],
        "end_impersonation" => &[Code::MissingPermission],
        "create_user" => &[Code::ActionRefused, Code::EmailTaken],
        "update_user" => &[Code::ActionRefused, Code::EmailTaken, Code::LastAdministrator],
        "renew_setup_token" | "end_user_sessions" => &[Code::ActionRefused],
        "update_article" | "delete_article" | "act_on_article" => &[Code::ActionRefused, Code::StatusForbids, Code::InsufficientScope],
        "update_policy" | "freeze_policy" | "unfreeze_policy" => &[Code::SettingPinned],
        "explain_me" => &[Code::NotFound],
        "undo_impersonation" => &[Code::ImpersonationLive],
        "update_client" | "rotate_client_secret" => &[Code::ActionRefused],
        "get_readiness" | "get_public_keys" | "get_metadata" => &[Code::DatabaseUnavailable],
        _ => &[],
    }
}

/// What every operation with a body, and every operation with a token, has in common.
const SHARED: [(&str, &[Code]); 2] = [
    ("BadRequest", &[Code::MalformedRequest, Code::UnknownField, Code::UnknownParameter]),
    ("Unauthorized", &[Code::CredentialsMissing, Code::InvalidToken, Code::TokenExpired, Code::SessionEnded, Code::ImpersonationEnded]),
];

/// A response's name in the document. It follows from what it holds, so that equal ones are one.
fn response_name(id: &str, status: StatusCode, codes: &[Code]) -> String {
    let shared = SHARED.iter().find(|(_, shared)| *shared == codes).map(|(name, _)| (*name).to_owned());
    shared.unwrap_or_else(|| match codes {
        [one] => camel_case(one.as_str()),
        [one, other] => format!("{}Or{}", camel_case(one.as_str()), camel_case(other.as_str())),
        _ => camel_case(id) + &status.canonical_reason().unwrap_or_default().replace(' ', ""),
    })
}

fn camel_case(snake_case: &str) -> String {
    let capitalised = |word: &str| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect::<String>();
    snake_case.split('_').map(capitalised).collect()
}

fn problem_response(status: StatusCode, codes: &[Code], is_secured: bool) -> Response {
    let narrowed = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("status", ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([status.as_u16()])))
        .property("code", ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes.iter().map(|code| code.as_str()))))
        .required("status")
        .required("code");
    let schema = AllOfBuilder::new().item(Ref::from_schema_name(ProblemDocument::name())).item(narrowed);
    let examples = codes.iter().map(|code| {
        let value = serde_json::to_value(example(*code)).ok();
        (code.as_str(), RefOr::T(ExampleBuilder::new().summary(title(*code)).value(value).build()))
    });
    let content = ContentBuilder::new().schema(Some(schema)).examples_from_iter(examples).build();
    let titles: Vec<&str> = codes.iter().map(|code| title(*code)).collect();
    let mut response = ResponseBuilder::new().description(titles.join("; ")).content(PROBLEM_JSON, content);
    match status {
        StatusCode::UNAUTHORIZED => {
            let challenge = "How to authenticate (RFC 6750): with `error=\"invalid_token\"` where a token was sent and is of no use";
            response = response.header("WWW-Authenticate", text_header(challenge, "Bearer error=\"invalid_token\""));
        }
        StatusCode::FORBIDDEN if codes.contains(&Code::InsufficientScope) => {
            let challenge = "With `insufficient_scope`: the scope that the token lacks (RFC 6750)";
            let example = "Bearer error=\"insufficient_scope\", scope=\"users:read\"";
            response = response.header("WWW-Authenticate", text_header(challenge, example));
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
            response = response.header("Retry-After", header("Seconds to wait", seconds));
        }
        _ => {}
    }
    let mut response = response.build();
    add_headers(&mut response, is_secured);
    response
}

/// The headers that every answer carries, and every answer to a token.
fn add_headers(response: &mut Response, is_secured: bool) {
    let mut add = |name: &str, header: Header| response.headers.insert(name.to_owned(), header.into());
    add("X-Request-Id", text_header("Names this answer in the log: the request's own, if it sent a sane one", EXAMPLE_REQUEST_ID));
    if is_secured {
        let id = || ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
        add("Actas-Subject", header("Under impersonation: as whom", id()));
        add("Actas-Actor", header("Under impersonation: who it really is", id()));
    }
}

fn header(description: &str, schema: ObjectBuilder) -> Header {
    HeaderBuilder::new().description(Some(description)).schema(Some(schema)).build()
}

fn text_header(description: &str, example: &str) -> Header {
    header(description, ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).examples([example]))
}

const EXAMPLE_REQUEST_ID: &str = "019aa0f0-0000-7000-8000-0000000000bb";

/// A problem as the service makes it.
fn example(code: Code) -> ProblemDocument {
    let reason = |code, detail: &str| vec![Reason::new(code, detail)];
    let error = match code {
        Code::MalformedRequest => Error::new(code, "the body is not well-formed JSON: line 1, column 10"),
        Code::UnknownField => Error::new(code, "the body has a member that is not known here; see `errors`")
            .with_errors(vec![FieldError::new("/colour", code.as_str(), "this body has no such member")]),
        Code::UnknownParameter => Error::new(code, "the query has a parameter that is not known here; see `errors`")
            .with_errors(vec![FieldError::new("page", code.as_str(), "there is no such parameter here")]),
        Code::CredentialsMissing => Error::new(code, "this needs an access token: Authorization: Bearer …"),
        Code::InvalidCredentials => Error::new(code, "the credentials are wrong"),
        Code::InvalidToken => Error::new(code, "the access token is not valid here"),
        Code::TokenExpired => Error::new(code, "the access token's time is over; refresh it"),
        Code::SessionEnded => Error::new(code, "the session is over: logout; log in again"),
        Code::ImpersonationEnded => Error::impersonation_ended(EndCause::Expired),
        Code::OriginalSessionEnded => {
            Error::new(code, "the impersonation is over, and so is the session that it was started from; log in again")
        }
        Code::RestoreProofRequired => Error::new(
            code,
            "the impersonation is over; its original token comes back only with the right `restore_verifier`: refresh the original session",
        ),
        Code::RefreshTokenInvalid => Error::new(code, "the refresh token is not valid here"),
        Code::RefreshTokenReused => Error::new(code, "this refresh token was replaced; its session is over, log in again"),
        Code::MissingPermission => missing_permission(Permission::UsersRead),
        Code::InsufficientScope => Error::insufficient_scope(Permission::UsersRead),
        Code::UserRequired => user_required(),
        Code::ForbiddenUnderImpersonation => {
            let detail = "this is not possible while acting as someone; log out of the impersonation first";
            Error::refused(code, detail, reason(ReasonCode::ForbiddenUnderImpersonation, detail))
        }
        Code::ReadOnlyImpersonation => {
            let detail = "this impersonation is read-only";
            Error::refused(code, detail, reason(ReasonCode::OutsideGrant, detail))
        }
        Code::OutsideGrant => {
            let detail = "the impersonation was started for other resources alone";
            Error::refused(code, detail, reason(ReasonCode::OutsideGrant, detail))
        }
        Code::SettingPinned => {
            Error::new(code, "some settings are pinned by the environment; see `errors`").with_errors(vec![FieldError::new(
                "/restore_proof_required",
                code.as_str(),
                "the environment of the server sets it; change it there",
            )])
        }
        Code::ImpersonationLive => Error::new(code, "the impersonation still runs; end it first"),
        Code::ImpersonationRefused => {
            let reasons = reason(ReasonCode::SubjectMayImpersonate, "the user may impersonate others, so nobody may act as them");
            Error::refused(code, "you may not act as this user", reasons)
        }
        Code::ActionRefused => {
            let reasons = reason(ReasonCode::NotEditor, "the article's editor is Eve Editor, and not Ed Editor");
            Error::refused(code, "you may not `accept` this article", reasons)
        }
        Code::NotFound => Error::not_found(),
        Code::MethodNotAllowed => Error::new(code, "this address knows only: GET, HEAD"),
        Code::RequestTimeout => Error::new(code, "the body took too long to arrive"),
        Code::StatusForbids => {
            let reasons = reason(ReasonCode::StatusForbids, "the article is `draft`, and `accept` is not possible in that status");
            Error::refused(code, "the article's status does not allow `accept`", reasons)
        }
        Code::EmailTaken => Error::new(code, "another account has this e-mail address"),
        Code::LastAdministrator => Error::new(code, "this is the last active administrator; make another one first"),
        Code::VersionMismatch => Error::new(code, "this has changed since you read it: it is at version 4 now"),
        Code::PayloadTooLarge => Error::new(code, "a body may have at most 1048576 bytes"),
        Code::UnsupportedMediaType => Error::new(code, "the body must be one of these, in UTF-8: application/json"),
        Code::InvalidRequest => Error::invalid_field("/title", "too_long", "must have at most 200 characters"),
        Code::TooManyAttempts => Error::too_many_attempts(30),
        Code::Internal => Error::internal("an example"),
        Code::Overloaded => Error::overloaded(),
        Code::DatabaseUnavailable => Error::database_unavailable("an example"),
    };
    Problem::from(error).document(example_path(code), EXAMPLE_REQUEST_ID)
}

/// Where such a problem can come from.
fn example_path(code: Code) -> &'static str {
    match code {
        Code::InvalidCredentials | Code::TooManyAttempts => "/v1/auth/login",
        Code::RefreshTokenInvalid | Code::RefreshTokenReused => "/v1/auth/refresh",
        Code::OriginalSessionEnded | Code::RestoreProofRequired => "/v1/auth/logout",
        Code::MissingPermission | Code::ForbiddenUnderImpersonation | Code::EmailTaken => "/v1/users",
        Code::ImpersonationRefused => "/v1/users/019aa0f0-0000-7000-8000-0000000000cc/impersonate",
        Code::SettingPinned => "/v1/policy",
        Code::ImpersonationLive => "/v1/impersonations/019aa0f0-0000-7000-8000-0000000000dd/undo",
        Code::LastAdministrator => "/v1/users/019aa0f0-0000-7000-8000-0000000000cc",
        Code::ActionRefused | Code::StatusForbids => "/v1/articles/019aa0f0-0000-7000-8000-0000000000aa/actions",
        Code::NotFound | Code::VersionMismatch => "/v1/articles/019aa0f0-0000-7000-8000-0000000000aa",
        _ => "/v1/articles",
    }
}
