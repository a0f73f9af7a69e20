//! Why a user can or can't: the same decision as every call's, asked without making one. It changes nothing.

use super::policy::Policies;
use crate::domain::article::Article;
use crate::domain::decision::{Action, Decision, Question, Rule, decide};
use crate::domain::error::{Error, Reason, Result};
use crate::domain::identity::Ctx;
use crate::domain::ids::{ArticleId, UserId};
use crate::domain::user::User;
use crate::store::{Conn, Lock, articles, users};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Every action, where none is named.
    pub action: Option<Action>,
    pub article: Option<ArticleId>,
}

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    pub article: Option<Article>,
    pub explanations: Vec<Explanation>,
}

/// Whether one action is possible, and why not.
#[derive(Debug)]
pub struct Explanation {
    pub action: Action,
    pub is_allowed: bool,
    /// Whether the user may in person.
    pub is_allowed_to_user: bool,
    /// Every reason why not.
    pub reasons: Vec<Reason>,
    /// Those of them that are the impersonation's.
    pub withheld: Vec<Reason>,
    pub rules: Vec<Rule>,
    /// What would make it possible.
    pub remedies: Vec<String>,
}

impl From<Decision<'_>> for Explanation {
    fn from(decision: Decision<'_>) -> Self {
        Self {
            action: decision.action(),
            is_allowed: decision.is_allowed(),
            is_allowed_to_user: decision.is_allowed_to_user(),
            reasons: decision.reasons(),
            withheld: decision.withheld(),
            rules: decision.rules(),
            remedies: decision.remedies(),
        }
    }
}

/// Explains what `user` may do in person, with a token of their own.
///
/// # Errors
/// 404 where there is no such user, or no such article that the caller may know of.
pub fn of_user(conn: &mut Conn, ctx: &Ctx, policies: &Policies, user: UserId, asked: Asked) -> Result<(User, Answer)> {
    let caller = ctx.viewer()?;
    let user = users::find(conn, user, Lock::None)?.ok_or_else(Error::not_found)?;
    let (who, is_frozen) = (&user.to_principal(), policies.read(conn, Lock::None)?.freeze.is_some());
    let article = find(conn, asked)?;
    if article.as_ref().is_some_and(|article| !article.is_visible_to(caller)) {
        return Err(Error::not_found());
    }
    let question = |action, article| {
        let question = Question::of_user(who, action, article);
        Question { is_frozen, ..question }
    };
    let explanations = explain(asked.action, article.as_ref(), question);
    Ok((user, Answer { article, explanations }))
}

/// Explains what the caller may do: under impersonation both what the subject may, and what the impersonation withholds.
///
/// # Errors
/// 404 where there is no such article that the caller may know of; 403 `outside_grant` where the impersonation was started for others alone.
pub fn of_oneself(conn: &mut Conn, ctx: &Ctx, asked: Asked) -> Result<Answer> {
    let identity = ctx.identity()?;
    let article = find(conn, asked)?;
    if let Some(article) = &article {
        super::articles::require_sight(identity, article)?;
    }
    let question = |action, article| Question::of_user(identity.subject(), action, article).under(identity.hold());
    let explanations = explain(asked.action, article.as_ref(), question);
    Ok(Answer { article, explanations })
}

fn find(conn: &mut Conn, asked: Asked) -> Result<Option<Article>> {
    let needs_article = asked.action != Some(Action::Create);
    match asked.article {
        Some(_) if !needs_article => {
            Err(Error::invalid_field("resource", "not_applicable", "`article.create` is about no article that is there"))
        }
        Some(id) => articles::find(conn, id, Lock::None)?.map(Some).ok_or_else(Error::not_found),
        None if needs_article => Err(Error::invalid_field("resource", "required", "say which article: `article:<id>`")),
        None => Ok(None),
    }
}

fn explain<'a>(
    action: Option<Action>,
    article: Option<&'a Article>,
    question: impl Fn(Action, Option<&'a Article>) -> Question<'a>,
) -> Vec<Explanation> {
    let all = Action::ALL.iter().copied().filter(|one| action.map_or(*one != Action::Create, |action| *one == action));
    all.map(|action| decide(question(action, article)).into()).collect()
}
