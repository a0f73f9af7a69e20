//! The policy: what the office lays down about impersonation.

use std::sync::Arc;

use actix_web::{HttpResponse, delete, get, patch, post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain;
use crate::domain::error::{Error, FieldError};
use crate::domain::impersonation::Mode;
use crate::domain::operation::{FreezePolicy, GetPolicy, UnfreezePolicy, UpdatePolicy};
use crate::domain::policy::{PolicyChange, PolicySetting, RefusedOperation, TicketPattern};
use crate::domain::role::Role;
use crate::domain::text::Reason;
use crate::http::answer::versioned;
use crate::http::caller::Authorized;
use crate::http::extract::{Body, Checked, IfMatch, Patch};
use crate::http::problem::Result;
use crate::http::wire::{Timestamp, UserRef};
use crate::service::policy;

/// What the office lays down about impersonation, as it holds: what the environment pins, it overrides.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "reason_required": true, "reason_min_length": 10, "ticket_required": true, "ticket_pattern": "HELP-[0-9]+",
    "default_duration_seconds": 900, "max_duration_seconds": 3600, "idle_seconds": 600, "restore_proof_required": true, "default_mode": "read_only",
    "read_only_roles": ["support"], "protected_roles": [], "max_live_per_actor": 3, "max_starts_per_hour": 20,
    "refused_operations": ["article.accept", "article.reject"], "freeze": null, "pinned": ["restore_proof_required"],
    "version": 4, "updated_at": "2026-11-23T09:15:00.000000Z"
})))]
pub struct Policy {
    /// Whether a start must give a reason.
    pub reason_required: bool,
    /// How many characters a reason has at least.
    pub reason_min_length: u32,
    /// Whether a start must name a ticket.
    pub ticket_required: bool,
    /// The regular expression that a ticket must match as a whole.
    #[schema(required = true)]
    pub ticket_pattern: Option<String>,
    /// How long an impersonation lasts that names no duration.
    pub default_duration_seconds: u32,
    /// The longest duration to ask for.
    pub max_duration_seconds: u32,
    /// How long an impersonation may go unused; 0 is no limit.
    pub idle_seconds: u32,
    /// Whether a start must carry a restore challenge.
    pub restore_proof_required: bool,
    /// The mode of an impersonation that names none.
    pub default_mode: Mode,
    /// Actors in these roles may only look.
    pub read_only_roles: Vec<Role>,
    /// Nobody acts as a user in one of these roles.
    pub protected_roles: Vec<Role>,
    /// How many impersonations one actor may have at once; 0 is no limit.
    pub max_live_per_actor: u32,
    /// How many impersonations one actor may start within an hour; 0 is no limit.
    pub max_starts_per_hour: u32,
    /// What is refused under impersonation beside what always is: an `operationId`, or what is done with an article, such as `article.accept`.
    #[schema(value_type = Vec<RefusedOperation>)]
    pub refused_operations: Vec<String>,
    /// That nobody acts as anybody now; `null` where it is not frozen.
    #[schema(required = true)]
    pub freeze: Option<Freeze>,
    /// What the environment of the server sets, and this call can't change.
    pub pinned: Vec<PolicySetting>,
    /// Raised by one with every change; the `ETag`.
    pub version: i64,
    pub updated_at: Timestamp,
}

/// That nobody acts as anybody.
#[derive(Debug, Serialize, ToSchema)]
pub struct Freeze {
    pub reason: String,
    /// When it began; `null` where the environment has it.
    #[schema(required = true)]
    pub since: Option<Timestamp>,
    /// Who froze; `null` where the environment has it.
    #[schema(required = true)]
    pub by: Option<UserRef>,
}

impl From<&domain::policy::Policy> for Policy {
    fn from(policy: &domain::policy::Policy) -> Self {
        let terms = &policy.terms;
        Self {
            reason_required: terms.reason_required,
            reason_min_length: terms.reason_min_length,
            ticket_required: terms.ticket_required,
            ticket_pattern: terms.ticket_pattern.as_ref().map(|pattern| pattern.as_str().to_owned()),
            default_duration_seconds: terms.usual_duration(),
            max_duration_seconds: terms.max_duration_seconds,
            idle_seconds: terms.idle_seconds,
            restore_proof_required: terms.restore_proof_required,
            default_mode: terms.default_mode,
            read_only_roles: terms.read_only_roles.clone(),
            protected_roles: terms.protected_roles.clone(),
            max_live_per_actor: terms.max_live_per_actor,
            max_starts_per_hour: terms.max_starts_per_hour,
            refused_operations: terms.refused_operations.iter().map(ToString::to_string).collect(),
            freeze: policy.freeze.as_ref().map(|freeze| Freeze {
                reason: freeze.reason.to_string(),
                since: freeze.since.map(Timestamp),
                by: freeze.by.clone().map(Into::into),
            }),
            pinned: policy.pinned.clone(),
            version: policy.version,
            updated_at: Timestamp(policy.updated_at),
        }
    }
}

fn shown(policy: &domain::policy::Policy) -> HttpResponse {
    versioned(&Policy::from(policy), policy.version)
}

/// Show the policy
#[utoipa::path(
    tag = "policy",
    security(("bearer" = [])),
    responses((status = 200, description = "The policy", body = Policy, headers(("ETag" = String, description = "The version, quoted")))),
)]
#[get("/v1/policy")]
pub async fn get_policy(auth: Authorized<GetPolicy>) -> Result<HttpResponse> {
    let policies = Arc::clone(&auth.state.office.policies);
    let policy = auth.read(move |conn, _| policy::get(conn, &policies)).await?;
    Ok(shown(&policy))
}

/// A change of the policy, as a JSON merge patch: what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdatePolicyRequest {
    #[serde(default)]
    #[schema(value_type = bool, required = false)]
    reason_required: Patch<bool>,
    #[serde(default)]
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 500)]
    reason_min_length: Patch<u32>,
    #[serde(default)]
    #[schema(value_type = bool, required = false)]
    ticket_required: Patch<bool>,
    /// A regular expression without look-around and back-references. `null` takes it away.
    #[serde(default)]
    #[schema(value_type = Option<String>, required = false, min_length = 1, max_length = 200, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", examples("HELP-[0-9]+"))]
    ticket_pattern: Patch<Option<String>>,
    #[serde(default)]
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 86400)]
    default_duration_seconds: Patch<u32>,
    #[serde(default)]
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 86400)]
    max_duration_seconds: Patch<u32>,
    #[serde(default)]
    #[schema(value_type = u32, required = false, maximum = 86400)]
    idle_seconds: Patch<u32>,
    #[serde(default)]
    #[schema(value_type = bool, required = false)]
    restore_proof_required: Patch<bool>,
    #[serde(default)]
    #[schema(value_type = Mode, required = false)]
    default_mode: Patch<Mode>,
    /// Actors in these roles may only look. All of them.
    #[serde(default)]
    #[schema(value_type = Vec<Role>, required = false)]
    read_only_roles: Patch<Vec<Role>>,
    /// Nobody acts as a user in one of these roles. All of them.
    #[serde(default)]
    #[schema(value_type = Vec<Role>, required = false)]
    protected_roles: Patch<Vec<Role>>,
    #[serde(default)]
    #[schema(value_type = u32, required = false, maximum = 10000)]
    max_live_per_actor: Patch<u32>,
    #[serde(default)]
    #[schema(value_type = u32, required = false, maximum = 10000)]
    max_starts_per_hour: Patch<u32>,
    /// What is refused under impersonation beside what always is. All of it.
    #[serde(default)]
    #[schema(value_type = Vec<RefusedOperation>, required = false)]
    refused_operations: Patch<Vec<String>>,
}

/// Change the policy
///
/// It holds from the next request on, on every instance. Impersonations that it rules out end with the change: those of users in a role that is now protected. The
/// rest keep the duration that they were given; what they may not do any more, they may not do from now on.
#[utoipa::path(
    tag = "policy",
    params(("If-Match" = Option<String>, Header, description = "Change only this version")),
    request_body(content(
        (UpdatePolicyRequest = "application/merge-patch+json"),
        (UpdatePolicyRequest = "application/json"),
    )),
    security(("bearer" = [])),
    responses((status = 200, description = "The policy as it is now", body = Policy, headers(("ETag" = String, description = "The version, quoted")))),
)]
#[patch("/v1/policy")]
pub async fn update_policy(auth: Authorized<UpdatePolicy>, if_match: IfMatch, body: Body<UpdatePolicyRequest>) -> Result<HttpResponse> {
    let expected = if_match.expected()?;
    let body = body.read_merge_patch().await?;
    let mut checked = Checked::new();
    let ticket_pattern = match body.ticket_pattern.into_option() {
        Some(Some(text)) => checked.field("/ticket_pattern", TicketPattern::parse(&text)).map(Some),
        Some(None) => Some(None),
        None => None,
    };
    let refused_operations = body.refused_operations.into_option().map(|texts| parse_operations(&mut checked, &texts));
    let change = PolicyChange {
        reason_required: body.reason_required.into_option(),
        reason_min_length: body.reason_min_length.into_option(),
        ticket_required: body.ticket_required.into_option(),
        ticket_pattern,
        default_duration_seconds: body.default_duration_seconds.into_option(),
        max_duration_seconds: body.max_duration_seconds.into_option(),
        idle_seconds: body.idle_seconds.into_option(),
        restore_proof_required: body.restore_proof_required.into_option(),
        default_mode: body.default_mode.into_option(),
        read_only_roles: body.read_only_roles.into_option(),
        protected_roles: body.protected_roles.into_option(),
        max_live_per_actor: body.max_live_per_actor.into_option(),
        max_starts_per_hour: body.max_starts_per_hour.into_option(),
        refused_operations,
    };
    let change = checked.finish(|| Some(change))?;
    let policies = Arc::clone(&auth.state.office.policies);
    let policy = auth.write(move |tx| policy::update(tx, &policies, &change, |version| expected.check(version))).await?;
    Ok(shown(&policy))
}

fn parse_operations(checked: &mut Checked, texts: &[String]) -> Vec<RefusedOperation> {
    let refused = ("unknown_operation", "must be an operationId that may run under impersonation, or such as `article.accept`");
    let parse = |(index, text): (usize, &String)| {
        checked.field(&format!("/refused_operations/{index}"), RefusedOperation::parse(text).ok_or(refused))
    };
    texts.iter().enumerate().filter_map(parse).collect()
}

/// Why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// One line of 1 to 500 characters.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$",
        examples("an administrator's laptop was stolen")
    )]
    reason: String,
}

fn parse_reason(request: &FreezeRequest) -> Result<Reason> {
    Reason::parse(&request.reason).map_err(|error| Error::invalid(vec![FieldError::new("/reason", error.code, error.detail)]).into())
}

/// Freeze impersonation
///
/// In one call: no impersonation starts from now on, and every one that runs is over, on every instance, and gives no original token back. Administrators keep
/// their own sessions. Freezing again changes nothing.
#[utoipa::path(
    tag = "policy",
    params(("If-Match" = Option<String>, Header, description = "Freeze only this version")),
    request_body = FreezeRequest,
    security(("bearer" = [])),
    responses((status = 200, description = "The policy, frozen", body = Policy, headers(("ETag" = String, description = "The version, quoted")))),
)]
#[post("/v1/policy/freeze")]
pub async fn freeze_policy(auth: Authorized<FreezePolicy>, if_match: IfMatch, body: Body<FreezeRequest>) -> Result<HttpResponse> {
    let expected = if_match.expected()?;
    let reason = parse_reason(&body.read().await?)?;
    let policies = Arc::clone(&auth.state.office.policies);
    let policy = auth.write(move |tx| policy::freeze(tx, &policies, &reason, |version| expected.check(version))).await?;
    Ok(shown(&policy))
}

/// Lift the freeze
///
/// Impersonations may start again; those that the freeze ended stay over. Where nothing is frozen it changes nothing. The reason may be left out, with the body.
#[utoipa::path(
    tag = "policy",
    params(("If-Match" = Option<String>, Header, description = "Lift only this version's")),
    request_body(content = Option<FreezeRequest>, content_type = "application/json"),
    security(("bearer" = [])),
    responses((status = 200, description = "The policy, not frozen", body = Policy, headers(("ETag" = String, description = "The version, quoted")))),
)]
#[delete("/v1/policy/freeze")]
pub async fn unfreeze_policy(auth: Authorized<UnfreezePolicy>, if_match: IfMatch, body: Body<FreezeRequest>) -> Result<HttpResponse> {
    let expected = if_match.expected()?;
    let why = body.read_optional().await?.as_ref().map(parse_reason).transpose()?;
    let policies = Arc::clone(&auth.state.office.policies);
    let policy = auth.write(move |tx| policy::unfreeze(tx, &policies, why.as_ref(), |version| expected.check(version))).await?;
    Ok(shown(&policy))
}
