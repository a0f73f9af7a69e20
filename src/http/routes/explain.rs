//! Why a user can or can't.

use std::sync::Arc;

use actix_web::{HttpResponse, get};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::domain;
use crate::domain::article::ArticleStatus;
use crate::domain::decision::{Action, RuleName, RuleOutcome};
use crate::domain::ids::{ArticleId, UserId};
use crate::domain::impersonation::Bounds;
use crate::domain::operation::{ExplainMe, ExplainUser};
use crate::domain::role::Role;
use crate::domain::user::UserStatus;
use crate::http::caller::Authorized;
use crate::http::extract::{Checked, PathId, Query};
use crate::http::problem::{ReasonDocument, Result};
use crate::http::wire::UserRef;
use crate::service::explain::{self, Answer, Asked};

/// What is asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    /// One action; without it every action on the article.
    action: Option<Action>,
    /// Which article: `article:<id>`. Everything but `article.create` needs one.
    #[param(pattern = "^article:[0-9a-f-]{36}$", example = "article:019aa0f0-0000-7000-8000-0000000000aa")]
    resource: Option<String>,
}

impl ExplainQuery {
    fn asked(self) -> Result<Asked> {
        let mut checked = Checked::new();
        let refused = ("invalid_resource", "must be such as `article:019aa0f0-0000-7000-8000-0000000000aa`");
        let article = checked.optional("resource", self.resource.as_deref().map(|text| Bounds::read_article(text).ok_or(refused)));
        checked.finish(|| Some(Asked { action: self.action, article }))
    }
}

/// Why somebody can or can't.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanations {
    /// Whose rights these are.
    pub subject: ExplainedUser,
    /// Who acts as them, where that is asked about; `null` where it is about the user in person.
    #[schema(required = true)]
    pub actor: Option<UserRef>,
    /// What it is about; `null` with `article.create`.
    #[schema(required = true)]
    pub resource: Option<ExplainedArticle>,
    /// One for each action that was asked about.
    pub explanations: Vec<Explanation>,
}

/// A user, as far as rules look at one.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainedUser {
    #[serde(flatten)]
    pub user: UserRef,
    pub role: Role,
    pub status: UserStatus,
}

/// A kind of resource: there is one.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExplainedType {
    Article,
}

/// An article, as far as rules look at one.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainedArticle {
    #[schema(inline)]
    pub r#type: ExplainedType,
    #[schema(value_type = uuid::Uuid)]
    pub id: ArticleId,
    #[schema(examples("On tides"))]
    pub title: String,
    pub status: ArticleStatus,
    pub author: UserRef,
    #[schema(required = true)]
    pub editor: Option<UserRef>,
}

/// Whether one action is possible, and the whole chain of rules that says so.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "action": "article.accept", "allowed": false, "allowed_to_subject": false,
    "reasons": [{ "code": "not_editor", "detail": "the article's editor is Eve Editor, and not Ed Editor" }], "withheld": [],
    "rules": [{ "rule": "relation", "outcome": "failed", "detail": "the article's editor is Eve Editor, and not Ed Editor" }],
    "remedies": ["assign Ed Editor as the article's editor"]
})))]
pub struct Explanation {
    pub action: Action,
    /// Whether the call would be let through now.
    pub allowed: bool,
    /// Whether it would be for the user in person. Differs from `allowed` only under impersonation.
    pub allowed_to_subject: bool,
    /// Every reason why not, as the refused call gives them.
    pub reasons: Vec<ReasonDocument>,
    /// Those of them that are the impersonation's.
    pub withheld: Vec<ReasonDocument>,
    pub rules: Vec<Rule>,
    /// What would help, all of it and in this order: to make it possible, or to have it done by whom it takes. Empty where it is possible, or nothing would help.
    pub remedies: Vec<String>,
}

/// A rule, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rule {
    pub rule: RuleName,
    pub outcome: RuleOutcome,
    /// A sentence that can be forwarded.
    #[schema(examples("the article's editor is Eve Editor, and not Ed Editor"))]
    pub detail: String,
}

impl From<explain::Explanation> for Explanation {
    fn from(it: explain::Explanation) -> Self {
        let rule = |rule: domain::decision::Rule| Rule { rule: rule.rule, outcome: rule.outcome, detail: rule.detail };
        Self {
            action: it.action,
            allowed: it.is_allowed,
            allowed_to_subject: it.is_allowed_to_user,
            reasons: it.reasons.into_iter().map(Into::into).collect(),
            withheld: it.withheld.into_iter().map(Into::into).collect(),
            rules: it.rules.into_iter().map(rule).collect(),
            remedies: it.remedies,
        }
    }
}

fn explained(subject: ExplainedUser, actor: Option<UserRef>, answer: Answer) -> HttpResponse {
    let resource = answer.article.map(|article| ExplainedArticle {
        r#type: ExplainedType::Article,
        id: article.id,
        title: article.title.to_string(),
        status: article.status,
        author: article.author.into(),
        editor: article.editor.map(Into::into),
    });
    let explanations = answer.explanations.into_iter().map(Into::into).collect();
    HttpResponse::Ok().json(Explanations { subject, actor, resource, explanations })
}

/// Explain what a user may do
///
/// Without acting as them: whether they may, in person, and every rule that says so, with sentences to forward and what would make it possible. Changes nothing.
#[utoipa::path(
    tag = "users",
    params(("id" = uuid::Uuid, Path, description = "The user"), ExplainQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "Why, and why not", body = Explanations)),
)]
#[get("/v1/users/{id}/explain")]
pub async fn explain_user(auth: Authorized<ExplainUser>, id: PathId<UserId>, query: Query<ExplainQuery>) -> Result<HttpResponse> {
    let (id, asked) = (id.parse()?, query.parse()?.asked()?);
    let policies = Arc::clone(&auth.state.office.policies);
    let (user, answer) = auth.read(move |conn, ctx| explain::of_user(conn, ctx, &policies, id, asked)).await?;
    let subject = ExplainedUser { user: user.to_ref().into(), role: user.role, status: user.status };
    Ok(explained(subject, None, answer))
}

/// Explain what one may do oneself
///
/// Under impersonation both what the subject may in person, and what the impersonation withholds.
#[utoipa::path(
    tag = "me",
    params(ExplainQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "Why, and why not", body = Explanations)),
)]
#[get("/v1/me/explain")]
pub async fn explain_me(auth: Authorized<ExplainMe>, query: Query<ExplainQuery>) -> Result<HttpResponse> {
    let asked = query.parse()?.asked()?;
    let answer = auth.read(move |conn, ctx| explain::of_oneself(conn, ctx, asked)).await?;
    let identity = auth.caller.identity()?;
    let subject = identity.subject();
    let (user, role, status) = (subject.user.clone().into(), subject.role, subject.status);
    let actor = identity.actor().map(|actor| actor.user.clone().into());
    Ok(explained(ExplainedUser { user, role, status }, actor, answer))
}
