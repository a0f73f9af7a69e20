//! Articles and the editorial workflow: what leaves which status, and who may take the step.

use super::error::{Code, Error, Reason, ReasonCode, Result};
use super::identity::Viewer;
use super::ids::{ArticleId, UserId};
use super::role::Permission;
use super::text::{Abstract, Body, Title};
use super::user::{Principal, UserRef};
use super::{Time, string_enum};

string_enum! {
    /// Where an article stands.
    pub enum ArticleStatus {
        Draft => "draft",
        Submitted => "submitted",
        UnderReview => "under_review",
        RevisionRequested => "revision_requested",
        Accepted => "accepted",
        Rejected => "rejected",
        Published => "published",
        Withdrawn => "withdrawn",
    }
}

string_enum! {
    /// What can be done with an article: `edit` by PATCH, `delete` by DELETE, everything else as a step of the workflow.
    pub enum ArticleAction {
        Edit => "edit",
        Delete => "delete",
        Submit => "submit",
        AssignEditor => "assign_editor",
        StartReview => "start_review",
        RequestRevision => "request_revision",
        Accept => "accept",
        Reject => "reject",
        RevertDecision => "revert_decision",
        Publish => "publish",
        Withdraw => "withdraw",
    }
}

string_enum! {
    /// A step of the editorial workflow.
    pub enum WorkflowStep {
        Submit => "submit",
        AssignEditor => "assign_editor",
        StartReview => "start_review",
        RequestRevision => "request_revision",
        Accept => "accept",
        Reject => "reject",
        RevertDecision => "revert_decision",
        Publish => "publish",
        Withdraw => "withdraw",
    }
}

impl WorkflowStep {
    pub const fn action(self) -> ArticleAction {
        match self {
            Self::Submit => ArticleAction::Submit,
            Self::AssignEditor => ArticleAction::AssignEditor,
            Self::StartReview => ArticleAction::StartReview,
            Self::RequestRevision => ArticleAction::RequestRevision,
            Self::Accept => ArticleAction::Accept,
            Self::Reject => ArticleAction::Reject,
            Self::RevertDecision => ArticleAction::RevertDecision,
            Self::Publish => ArticleAction::Publish,
            Self::Withdraw => ArticleAction::Withdraw,
        }
    }

    /// The status that this step leads to from `from`; `None` where it doesn't leave `from`.
    pub const fn leads_to(self, from: ArticleStatus) -> Option<ArticleStatus> {
        use ArticleStatus::{Accepted, Draft, Published, Rejected, RevisionRequested, Submitted, UnderReview, Withdrawn};
        match (self, from) {
            (Self::Submit, Draft | RevisionRequested) => Some(Submitted),
            (Self::AssignEditor, Submitted | UnderReview | RevisionRequested | Accepted | Rejected) => Some(from),
            (Self::StartReview, Submitted) => Some(UnderReview),
            (Self::RequestRevision, UnderReview) => Some(RevisionRequested),
            (Self::Accept, UnderReview) => Some(Accepted),
            (Self::Reject, Submitted | UnderReview) => Some(Rejected),
            (Self::RevertDecision, Accepted | Rejected) => Some(UnderReview),
            (Self::Publish, Accepted) => Some(Published),
            (Self::Withdraw, Submitted | UnderReview | RevisionRequested) => Some(Withdrawn),
            _ => None,
        }
    }
}

impl ArticleAction {
    /// The step of the workflow that this is, unless it is `edit` or `delete`.
    pub const fn step(self) -> Option<WorkflowStep> {
        match self {
            Self::Edit | Self::Delete => None,
            Self::Submit => Some(WorkflowStep::Submit),
            Self::AssignEditor => Some(WorkflowStep::AssignEditor),
            Self::StartReview => Some(WorkflowStep::StartReview),
            Self::RequestRevision => Some(WorkflowStep::RequestRevision),
            Self::Accept => Some(WorkflowStep::Accept),
            Self::Reject => Some(WorkflowStep::Reject),
            Self::RevertDecision => Some(WorkflowStep::RevertDecision),
            Self::Publish => Some(WorkflowStep::Publish),
            Self::Withdraw => Some(WorkflowStep::Withdraw),
        }
    }
}

/// An article's row, with its people as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Article {
    pub id: ArticleId,
    pub title: Title,
    pub r#abstract: Abstract,
    pub body: Body,
    pub status: ArticleStatus,
    pub author: UserRef,
    pub editor: Option<UserRef>,
    /// Raised by one with every change.
    pub version: i64,
    pub created_at: Time,
    pub updated_at: Time,
}

/// A change of an article's text. `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct ArticleChange {
    pub title: Option<Title>,
    pub r#abstract: Option<Abstract>,
    pub body: Option<Body>,
}

impl Article {
    /// Whether `who` may know that this article exists: its author, its editor, and holders of `articles:read_all`.
    pub fn is_visible_to(&self, who: Viewer<'_>) -> bool {
        who.is(self.author.id) || self.editor.as_ref().is_some_and(|editor| who.is(editor.id)) || who.holds(Permission::ArticlesReadAll)
    }

    fn is_author(&self, id: UserId) -> bool {
        self.author.id == id
    }

    fn is_editor(&self, id: UserId) -> bool {
        self.editor.as_ref().is_some_and(|editor| editor.id == id)
    }
}

/// Whether one person may do one thing with an article, and every reason why not.
#[derive(Debug, Clone)]
pub struct Assessment {
    pub action: ArticleAction,
    pub reasons: Vec<Reason>,
    /// What the scope of the person's token lacks for it.
    lacks: Option<Permission>,
}

impl Assessment {
    /// Judges `action` on `article` by `who`. The rights are the subject's alone; what an impersonation withholds is decided elsewhere.
    pub fn of(article: &Article, action: ArticleAction, who: &Principal) -> Self {
        let mut reasons = Vec::new();
        let needed = match action {
            ArticleAction::Edit => return Self::of_edit(article, who, Part::Any),
            ArticleAction::Delete | ArticleAction::Submit | ArticleAction::Withdraw => {
                reasons.extend(author_reason(article, who));
                Permission::ArticlesCreate
            }
            ArticleAction::StartReview
            | ArticleAction::RequestRevision
            | ArticleAction::Accept
            | ArticleAction::Reject
            | ArticleAction::RevertDecision => {
                reasons.extend(permission_reason(who, Permission::ArticlesEditAssigned));
                reasons.extend(editor_reason(article, who));
                Permission::ArticlesEditAssigned
            }
            ArticleAction::AssignEditor => {
                reasons.extend(permission_reason(who, Permission::ArticlesAssignEditor));
                Permission::ArticlesAssignEditor
            }
            ArticleAction::Publish => {
                reasons.extend(permission_reason(who, Permission::ArticlesPublish));
                Permission::ArticlesPublish
            }
        };
        let status_allows = match action.step() {
            Some(step) => step.leads_to(article.status).is_some(),
            None => article.status == ArticleStatus::Draft,
        };
        if !status_allows {
            reasons.push(status_reason(article.status, action));
        }
        Self::within_scope(action, reasons, who, needed)
    }

    /// For what authors do, no role is asked; but a narrower token has to name that it may write articles, as it has to name every other right. What the role
    /// does not permit, no scope would.
    fn within_scope(action: ArticleAction, mut reasons: Vec<Reason>, who: &Principal, needed: Permission) -> Self {
        let is_permitted = reasons.iter().all(|reason| reason.code != ReasonCode::MissingPermission);
        let lacks = (is_permitted && !who.is_in_scope(needed)).then_some(needed);
        reasons.extend(lacks.map(|needed| Reason::new(ReasonCode::InsufficientScope, format!("the token's scope lacks `{needed}`"))));
        Self { action, reasons, lacks }
    }

    /// Judges whether `who` may make this very change: the author edits everything, the editor title and abstract.
    pub fn of_change(article: &Article, change: &ArticleChange, who: &Principal) -> Self {
        let part = if change.body.is_some() { Part::Body } else { Part::Any };
        Self::of_edit(article, who, part)
    }

    fn of_edit(article: &Article, who: &Principal, part: Part) -> Self {
        use ArticleStatus::{Draft, RevisionRequested, Submitted, UnderReview};
        let as_author = article.is_author(who.id());
        let as_editor = article.is_editor(who.id()) && part == Part::Any;
        let mut reasons = Vec::new();
        let needed = if as_editor && !as_author { Permission::ArticlesEditAssigned } else { Permission::ArticlesCreate };
        let status_allows = if as_author {
            matches!(article.status, Draft | RevisionRequested)
        } else if as_editor {
            reasons.extend(permission_reason(who, Permission::ArticlesEditAssigned));
            matches!(article.status, Submitted | UnderReview)
        } else {
            reasons.push(Reason::new(
                ReasonCode::NotAuthor,
                if part == Part::Body { "only the article's author edits its body" } else { "you are not the article's author" },
            ));
            if part == Part::Any {
                reasons.push(Reason::new(ReasonCode::NotEditor, "you are not the article's editor"));
            }
            matches!(article.status, Draft | RevisionRequested) || (part == Part::Any && matches!(article.status, Submitted | UnderReview))
        };
        if !status_allows {
            reasons.push(status_reason(article.status, ArticleAction::Edit));
        }
        Self::within_scope(ArticleAction::Edit, reasons, who, needed)
    }

    /// Judges whether the article may be given to `editor` by someone who may assign editors: never to its author.
    pub fn of_assignment(article: &Article, editor: UserId, who: &Principal) -> Self {
        let mut assessment = Self::of(article, ArticleAction::AssignEditor, who);
        if article.is_author(editor) {
            assessment.reasons.push(Reason::new(ReasonCode::ConflictOfInterest, "an article's author can't be its editor"));
        }
        assessment
    }

    pub fn is_allowed(&self) -> bool {
        self.reasons.is_empty()
    }

    /// # Errors
    /// 403 `action_refused` where the person may not, `insufficient_scope` where only the token's scope is too narrow, else 409 `status_forbids` where only the
    /// status is in the way; each with all reasons.
    pub fn require(self) -> Result<()> {
        if self.reasons.is_empty() {
            return Ok(());
        }
        let only_status = self.reasons.iter().all(|reason| reason.code == ReasonCode::StatusForbids);
        let only_scope = self.reasons.iter().all(|reason| matches!(reason.code, ReasonCode::StatusForbids | ReasonCode::InsufficientScope));
        if let Some(needed) = self.lacks.filter(|_| only_scope) {
            return Err(
                Error::refused(Code::InsufficientScope, format!("the token's scope lacks `{needed}`"), self.reasons).with_scope(needed)
            );
        }
        let (code, detail) = if only_status {
            (Code::StatusForbids, format!("the article's status does not allow `{}`", self.action))
        } else {
            (Code::ActionRefused, format!("you may not `{}` this article", self.action))
        };
        Err(Error::refused(code, detail, self.reasons))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Title or abstract: the author's and the editor's.
    Any,
    /// The body: the author's alone.
    Body,
}

fn author_reason(article: &Article, who: &Principal) -> Option<Reason> {
    (!article.is_author(who.id())).then(|| Reason::new(ReasonCode::NotAuthor, "you are not the article's author"))
}

fn editor_reason(article: &Article, who: &Principal) -> Option<Reason> {
    let detail = match &article.editor {
        Some(editor) if editor.id == who.id() => return None,
        Some(editor) => format!("the article's editor is {}", editor.display_name),
        None => "the article has no editor yet".to_owned(),
    };
    Some(Reason::new(ReasonCode::NotEditor, detail))
}

fn permission_reason(who: &Principal, permission: Permission) -> Option<Reason> {
    (!who.role.holds(permission))
        .then(|| Reason::new(ReasonCode::MissingPermission, format!("the role `{}` does not hold `{permission}`", who.role)))
}

fn status_reason(status: ArticleStatus, action: ArticleAction) -> Reason {
    Reason::new(ReasonCode::StatusForbids, format!("the article is `{status}`, and `{action}` is not possible in that status"))
}
