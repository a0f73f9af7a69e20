//! Articles and the editorial workflow: what leaves which status, and who may take the step.

use super::identity::Viewer;
use super::ids::{ArticleId, UserId};
use super::role::Permission;
use super::text::{Abstract, Body, Title};
use super::user::UserRef;
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

    pub fn is_author(&self, id: UserId) -> bool {
        self.author.id == id
    }

    pub fn is_editor(&self, id: UserId) -> bool {
        self.editor.as_ref().is_some_and(|editor| editor.id == id)
    }
}
