//! Whether somebody may do something with an article, and the whole chain of rules that says so: the one place in which the editorial workflow, the token's
//! scope and what an impersonation withholds are put together. Asked for every call, for the `actions` of every article, and by whoever wants to know why.
//!
//! [`decide`] only compares; sentences are made when somebody reads them.

use super::article::{Article, ArticleAction, ArticleStatus, WorkflowStep};
use super::error::{Code, Error, Reason, ReasonCode, Result};
use super::identity::Viewer;
use super::ids::UserId;
use super::impersonation::{Hold, Mode};
use super::role::{Permission, Role};
use super::string_enum;
use super::user::Principal;

string_enum! {
    /// What can be asked about: `article.create` of no article in particular, everything else of one.
    pub enum Action {
        Read => "article.read",
        Create => "article.create",
        Edit => "article.edit",
        Delete => "article.delete",
        Submit => "article.submit",
        AssignEditor => "article.assign_editor",
        StartReview => "article.start_review",
        RequestRevision => "article.request_revision",
        Accept => "article.accept",
        Reject => "article.reject",
        RevertDecision => "article.revert_decision",
        Publish => "article.publish",
        Withdraw => "article.withdraw",
    }
}

impl Action {
    /// What is done with an article that is there.
    pub const fn of_article(self) -> Option<ArticleAction> {
        match self {
            Self::Read | Self::Create => None,
            Self::Edit => Some(ArticleAction::Edit),
            Self::Delete => Some(ArticleAction::Delete),
            Self::Submit => Some(ArticleAction::Submit),
            Self::AssignEditor => Some(ArticleAction::AssignEditor),
            Self::StartReview => Some(ArticleAction::StartReview),
            Self::RequestRevision => Some(ArticleAction::RequestRevision),
            Self::Accept => Some(ArticleAction::Accept),
            Self::Reject => Some(ArticleAction::Reject),
            Self::RevertDecision => Some(ArticleAction::RevertDecision),
            Self::Publish => Some(ArticleAction::Publish),
            Self::Withdraw => Some(ArticleAction::Withdraw),
        }
    }

    /// The call by which it is done.
    const fn operation_id(self) -> &'static str {
        match self {
            Self::Read => "get_article",
            Self::Create => "create_article",
            Self::Edit => "update_article",
            Self::Delete => "delete_article",
            _ => "act_on_article",
        }
    }
}

impl From<ArticleAction> for Action {
    fn from(action: ArticleAction) -> Self {
        match action {
            ArticleAction::Edit => Self::Edit,
            ArticleAction::Delete => Self::Delete,
            ArticleAction::Submit => Self::Submit,
            ArticleAction::AssignEditor => Self::AssignEditor,
            ArticleAction::StartReview => Self::StartReview,
            ArticleAction::RequestRevision => Self::RequestRevision,
            ArticleAction::Accept => Self::Accept,
            ArticleAction::Reject => Self::Reject,
            ArticleAction::RevertDecision => Self::RevertDecision,
            ArticleAction::Publish => Self::Publish,
            ArticleAction::Withdraw => Self::Withdraw,
        }
    }
}

string_enum! {
    /// A rule of the chain, in the order in which they are asked. Those from `grant` on are about an impersonation; the others would hold for the user, too.
    #[schema(as = RuleName)]
    pub enum RuleName {
        /// Whether the account is active.
        AccountStatus => "account_status",
        /// Whether the user may know that the article exists.
        Visibility => "visibility",
        /// Whether the role holds the permission.
        Role => "role",
        /// Whether the user is the author or the editor that it takes.
        Relation => "relation",
        /// Whether the article's status allows it.
        ArticleStatus => "article_status",
        /// Whether the token's scope names the permission.
        Scope => "scope",
        /// Whether it is inside of what the impersonation was started for.
        Grant => "grant",
        /// Whether the impersonation may change anything.
        Mode => "mode",
        /// Whether the policy refuses it under impersonation.
        Policy => "policy",
        /// Whether impersonation is frozen.
        Freeze => "freeze",
    }
}

string_enum! {
    /// What came of a rule.
    pub enum RuleOutcome {
        Passed => "passed",
        Failed => "failed",
        NotApplicable => "not_applicable",
    }
}

/// One rule of the chain, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub rule: RuleName,
    pub outcome: RuleOutcome,
    /// A sentence that a support person can forward.
    pub detail: String,
    /// Where it failed: why, as the refused call says it.
    pub reasons: Vec<Reason>,
    /// Where it failed: what would make it pass, if anything would.
    pub remedy: Option<String>,
}

/// What an edit changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Title or abstract: the author's and the editor's.
    Any,
    /// The body: the author's alone.
    Body,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub who: &'a Principal,
    /// Under impersonation: what is withheld. Without it the question is what the user may.
    pub hold: Option<Hold<'a>>,
    pub action: Action,
    /// What it is done with; nothing for `article.create`.
    pub article: Option<&'a Article>,
    /// For an edit: of what.
    pub part: Part,
    /// For an assignment: of whom, where that is known.
    pub editor: Option<UserId>,
}

impl<'a> Question<'a> {
    /// What the user may do in person, with the token with which they are here.
    pub fn of_user(who: &'a Principal, action: impl Into<Action>, article: Option<&'a Article>) -> Self {
        Self { who, hold: None, action: action.into(), article, part: Part::Any, editor: None }
    }

    /// The same under an impersonation, if there is one.
    #[must_use]
    pub fn under(self, hold: Option<Hold<'a>>) -> Self {
        Self { hold, ..self }
    }
}

/// That an action was found allowed. Whatever changes an article takes one, so that nothing is changed that was not decided.
#[derive(Debug)]
pub struct Allowed(());

/// What was decided, and why.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    question: Question<'a>,
    findings: Findings,
}

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Findings {
    needed: Option<Permission>,
    is_the_roles: bool,
    is_disabled: bool,
    is_invisible: bool,
    is_missing_permission: bool,
    is_not_author: bool,
    is_not_editor: bool,
    is_conflict: bool,
    is_status_forbidding: bool,
    is_lacking_scope: bool,
    is_other_resource: bool,
    is_other_permission: bool,
    is_read_only: bool,
    is_refused: bool,
    is_frozen: bool,
}

/// Decides. The user's own part and the impersonation's are both looked at, whatever comes of either.
pub fn decide(question: Question<'_>) -> Decision<'_> {
    let Question { who, hold, action, article, part, editor } = question;
    let is_author = article.is_some_and(|article| article.is_author(who.id()));
    let is_editor = article.is_some_and(|article| article.is_editor(who.id()));
    let whose = Whose { is_author, is_editor, part };
    let (needed, is_the_roles) = needed(action, whose);
    let mut found = Findings {
        needed,
        is_the_roles,
        is_disabled: !who.is_active(),
        is_invisible: article.is_some_and(|article| !article.is_visible_to(Viewer::User(who))),
        is_missing_permission: needed.is_some_and(|needed| is_the_roles && !who.role.holds(needed)),
        is_not_author: false,
        is_not_editor: false,
        is_conflict: editor.is_some_and(|editor| article.is_some_and(|article| article.is_author(editor))),
        is_status_forbidding: false,
        is_lacking_scope: false,
        is_other_resource: false,
        is_other_permission: false,
        is_read_only: false,
        is_refused: false,
        is_frozen: false,
    };
    match action {
        Action::Edit => {
            found.is_not_author = !is_author && !whose.edits_as_editor();
            found.is_not_editor = !is_author && !is_editor && part == Part::Any;
        }
        Action::Delete | Action::Submit | Action::Withdraw => found.is_not_author = !is_author,
        Action::StartReview | Action::RequestRevision | Action::Accept | Action::Reject | Action::RevertDecision => {
            found.is_not_editor = !is_editor;
        }
        Action::Read | Action::Create | Action::AssignEditor | Action::Publish => {}
    }
    found.is_status_forbidding = article.is_some_and(|article| !status_allows(action, article.status, whose));
    // What the role does not permit, no scope would.
    found.is_lacking_scope = needed.is_some_and(|needed| !found.is_missing_permission && !who.is_in_scope(needed));
    if let Some(Hold { mode, bounds, policy }) = hold {
        found.is_other_resource = match article {
            Some(article) => !bounds.cover(article.id),
            None => bounds.articles.is_some(),
        };
        found.is_other_permission = needed.is_some_and(|needed| !found.is_missing_permission && !bounds.permit(needed));
        found.is_read_only = action != Action::Read && mode == Mode::ReadOnly;
        let is_refused_action = action.of_article().is_some_and(|action| policy.refuses_action(action));
        found.is_refused = is_refused_action || policy.refuses_call(action.operation_id());
        found.is_frozen = policy.freeze.is_some();
    }
    Decision { question, findings: found }
}

/// The permission that an action takes, and whether the role has to hold it, and not the scope alone: for what authors do with their own, no role is asked.
const fn needed(action: Action, whose: Whose) -> (Option<Permission>, bool) {
    match action {
        Action::Read => (None, false),
        Action::Create => (Some(Permission::ArticlesCreate), true),
        Action::Delete | Action::Submit | Action::Withdraw => (Some(Permission::ArticlesCreate), false),
        Action::Edit if whose.edits_as_editor() => (Some(Permission::ArticlesEditAssigned), true),
        Action::Edit => (Some(Permission::ArticlesCreate), false),
        Action::StartReview | Action::RequestRevision | Action::Accept | Action::Reject | Action::RevertDecision => {
            (Some(Permission::ArticlesEditAssigned), true)
        }
        Action::AssignEditor => (Some(Permission::ArticlesAssignEditor), true),
        Action::Publish => (Some(Permission::ArticlesPublish), true),
    }
}

/// Who somebody is to the article, and what they would edit of it.
#[derive(Clone, Copy)]
struct Whose {
    is_author: bool,
    is_editor: bool,
    part: Part,
}

impl Whose {
    const fn edits_as_editor(self) -> bool {
        self.is_editor && !self.is_author && matches!(self.part, Part::Any)
    }
}

const fn status_allows(action: Action, status: ArticleStatus, whose: Whose) -> bool {
    use ArticleStatus::{Draft, RevisionRequested, Submitted, UnderReview};
    let of_author = matches!(status, Draft | RevisionRequested);
    let of_editor = matches!(whose.part, Part::Any) && matches!(status, Submitted | UnderReview);
    match action {
        Action::Read | Action::Create => true,
        Action::Edit if whose.is_author => of_author,
        Action::Edit if whose.edits_as_editor() => of_editor,
        Action::Edit => of_author || of_editor,
        Action::Delete => matches!(status, Draft),
        _ => match action.of_article() {
            Some(action) => match action.step() {
                Some(step) => step.leads_to(status).is_some(),
                None => true,
            },
            None => true,
        },
    }
}

impl<'a> Decision<'a> {
    pub fn action(&self) -> Action {
        self.question.action
    }

    pub fn is_allowed(&self) -> bool {
        self.is_allowed_to_user() && !self.is_withheld()
    }

    /// Whether the user may, in person.
    pub fn is_allowed_to_user(&self) -> bool {
        let found = &self.findings;
        !(found.is_disabled
            || found.is_invisible
            || found.is_missing_permission
            || found.is_not_author
            || found.is_not_editor
            || found.is_conflict
            || found.is_status_forbidding
            || found.is_lacking_scope)
    }

    /// Whether the impersonation stands in the way, whatever the user may.
    pub fn is_withheld(&self) -> bool {
        let found = &self.findings;
        found.is_other_resource || found.is_other_permission || found.is_read_only || found.is_refused || found.is_frozen
    }

    /// Every reason why not: the user's own, and then what is withheld.
    pub fn reasons(&self) -> Vec<Reason> {
        let mut reasons = self.reasons_of_user();
        reasons.extend(self.withheld());
        reasons
    }

    /// Why the user may not, in person.
    pub fn reasons_of_user(&self) -> Vec<Reason> {
        let found = &self.findings;
        let mut reasons = Vec::new();
        let mut add = |applies: bool, code, detail: &dyn Fn() -> String| {
            if applies {
                reasons.push(Reason::new(code, detail()));
            }
        };
        add(found.is_disabled, ReasonCode::AccountDisabled, &|| format!("{}'s account is disabled", self.name()));
        add(found.is_invisible, ReasonCode::NotVisible, &|| self.invisible());
        add(found.is_missing_permission, ReasonCode::MissingPermission, &|| {
            format!("the role `{}` does not hold `{}`", self.question.who.role, self.needed())
        });
        add(found.is_not_author, ReasonCode::NotAuthor, &|| self.not_author());
        add(found.is_not_editor, ReasonCode::NotEditor, &|| self.not_editor());
        add(found.is_status_forbidding, ReasonCode::StatusForbids, &|| self.forbidding_status());
        add(found.is_lacking_scope, ReasonCode::InsufficientScope, &|| format!("the token's scope lacks `{}`", self.needed()));
        add(found.is_conflict, ReasonCode::ConflictOfInterest, &|| "an article's author can't be its editor".to_owned());
        reasons
    }

    /// What the impersonation withholds of it.
    pub fn withheld(&self) -> Vec<Reason> {
        let found = &self.findings;
        let mut reasons = Vec::new();
        let mut add = |applies: bool, code, detail: &dyn Fn() -> String| {
            if applies {
                reasons.push(Reason::new(code, detail()));
            }
        };
        add(found.is_other_resource, ReasonCode::OutsideGrant, &outside_resources);
        add(found.is_other_permission, ReasonCode::OutsideGrant, &|| outside_permissions(self.needed()));
        add(found.is_read_only, ReasonCode::OutsideGrant, &read_only);
        add(found.is_refused, ReasonCode::ForbiddenUnderImpersonation, &|| refused_by_policy(self.question.action));
        add(found.is_frozen, ReasonCode::Frozen, &|| "impersonation is frozen".to_owned());
        reasons
    }

    /// Demands that it is allowed.
    ///
    /// # Errors
    /// With all reasons: 404 where the article is not to be known of; 403 `outside_grant`, `read_only_impersonation` or `forbidden_under_impersonation` where the
    /// impersonation withholds it; 403 `action_refused` where the person may not, `insufficient_scope` where only the token's scope is too narrow; else 409
    /// `status_forbids` where only the status is in the way. Of an article outside of the grant nothing else is told.
    pub fn require(&self) -> Result<Allowed> {
        if self.is_allowed() {
            return Ok(Allowed(()));
        }
        let found = &self.findings;
        if found.is_invisible {
            return Err(Error::not_found());
        }
        if found.is_other_resource && self.question.article.is_some() {
            return Err(outside_grant(outside_resources()));
        }
        let reasons = self.reasons();
        if self.is_withheld() {
            let (code, detail) = if found.is_refused {
                (Code::ForbiddenUnderImpersonation, refused_by_policy(self.question.action))
            } else if found.is_read_only {
                (Code::ReadOnlyImpersonation, read_only())
            } else if found.is_other_resource {
                (Code::OutsideGrant, outside_resources())
            } else {
                (Code::OutsideGrant, outside_permissions(self.needed()))
            };
            return Err(Error::refused(code, detail, reasons));
        }
        let only = |codes: &[ReasonCode]| reasons.iter().all(|reason| codes.contains(&reason.code));
        if let Some(needed) = found.needed.filter(|_| found.is_lacking_scope)
            && only(&[ReasonCode::StatusForbids, ReasonCode::InsufficientScope])
        {
            let detail = format!("the token's scope lacks `{needed}`");
            return Err(Error::refused(Code::InsufficientScope, detail, reasons).with_scope(needed));
        }
        if self.question.action == Action::Create && found.is_missing_permission {
            return Err(Error::refused(Code::MissingPermission, format!("you do not hold `{}`", self.needed()), reasons));
        }
        let what = self.verb();
        let (code, detail) = if only(&[ReasonCode::StatusForbids]) {
            (Code::StatusForbids, format!("the article's status does not allow `{what}`"))
        } else {
            (Code::ActionRefused, format!("you may not `{what}` this article"))
        };
        Err(Error::refused(code, detail, reasons))
    }

    /// The whole chain, each rule with its outcome.
    pub fn rules(&self) -> Vec<Rule> {
        let found = &self.findings;
        let reasons = self.reasons();
        RuleName::ALL
            .iter()
            .map(|&rule| {
                let failed: Vec<Reason> = reasons.iter().filter(|reason| self.belongs(rule, reason)).cloned().collect();
                let outcome = match rule {
                    _ if !failed.is_empty() => RuleOutcome::Failed,
                    RuleName::AccountStatus => RuleOutcome::Passed,
                    RuleName::Visibility | RuleName::ArticleStatus if self.question.article.is_none() => RuleOutcome::NotApplicable,
                    RuleName::ArticleStatus if self.question.action == Action::Read => RuleOutcome::NotApplicable,
                    RuleName::Visibility | RuleName::ArticleStatus => RuleOutcome::Passed,
                    RuleName::Role if !found.is_the_roles => RuleOutcome::NotApplicable,
                    RuleName::Relation if !self.asks_relation() => RuleOutcome::NotApplicable,
                    RuleName::Scope if self.question.who.scope.is_none() || found.needed.is_none() => RuleOutcome::NotApplicable,
                    RuleName::Scope if found.is_missing_permission => RuleOutcome::NotApplicable,
                    RuleName::Role | RuleName::Relation | RuleName::Scope => RuleOutcome::Passed,
                    RuleName::Grant | RuleName::Mode | RuleName::Policy | RuleName::Freeze => {
                        if self.question.hold.is_some() {
                            RuleOutcome::Passed
                        } else {
                            RuleOutcome::NotApplicable
                        }
                    }
                };
                let detail = match outcome {
                    RuleOutcome::Failed => failed.iter().map(|reason| &*reason.detail).collect::<Vec<_>>().join("; "),
                    RuleOutcome::Passed => self.passed(rule),
                    RuleOutcome::NotApplicable => self.not_applicable(rule),
                };
                let remedy = if outcome == RuleOutcome::Failed { self.remedy(rule) } else { None };
                Rule { rule, outcome, detail, reasons: failed, remedy }
            })
            .collect()
    }

    /// What would make it possible: nothing where it is, and nothing where something stands in the way that nobody can change.
    pub fn remedies(&self) -> Vec<String> {
        let failed: Vec<Rule> = self.rules().into_iter().filter(|rule| rule.outcome == RuleOutcome::Failed).collect();
        let mut remedies = failed.into_iter().map(|rule| rule.remedy).collect::<Option<Vec<_>>>().unwrap_or_default();
        // One may help with two.
        remedies.dedup();
        remedies
    }

    fn belongs(&self, rule: RuleName, reason: &Reason) -> bool {
        rule == match reason.code {
            ReasonCode::AccountDisabled => RuleName::AccountStatus,
            ReasonCode::NotVisible => RuleName::Visibility,
            ReasonCode::MissingPermission => RuleName::Role,
            ReasonCode::StatusForbids => RuleName::ArticleStatus,
            ReasonCode::InsufficientScope => RuleName::Scope,
            ReasonCode::OutsideGrant if reason.detail == READ_ONLY => RuleName::Mode,
            ReasonCode::OutsideGrant => RuleName::Grant,
            ReasonCode::ForbiddenUnderImpersonation => RuleName::Policy,
            ReasonCode::Frozen => RuleName::Freeze,
            _ => RuleName::Relation,
        }
    }

    fn name(&self) -> &'a str {
        self.question.who.user.display_name.as_str()
    }

    /// The action without what it is done with.
    fn verb(&self) -> &'static str {
        self.question.action.as_str().trim_start_matches("article.")
    }

    fn needed(&self) -> &'static str {
        self.findings.needed.map_or("", Permission::as_str)
    }

    fn status(&self) -> &'static str {
        self.question.article.map_or("", |article| article.status.as_str())
    }

    fn editor_name(&self) -> Option<&'a str> {
        self.question.article?.editor.as_ref().map(|editor| editor.display_name.as_str())
    }

    fn is_author(&self) -> bool {
        self.question.article.is_some_and(|article| article.is_author(self.question.who.id()))
    }

    fn is_editor(&self) -> bool {
        self.question.article.is_some_and(|article| article.is_editor(self.question.who.id()))
    }

    fn asks_relation(&self) -> bool {
        !matches!(self.question.action, Action::Read | Action::Create | Action::AssignEditor | Action::Publish)
    }

    fn invisible(&self) -> String {
        format!(
            "the article does not exist for {}, who is neither its author nor its editor and does not hold `articles:read_all`",
            self.name()
        )
    }

    fn not_author(&self) -> String {
        match self.question.part {
            Part::Body => format!("only the article's author edits its body, and that is not {}", self.name()),
            Part::Any => format!("{} is not the article's author", self.name()),
        }
    }

    fn not_editor(&self) -> String {
        match self.editor_name() {
            Some(editor) => format!("the article's editor is {editor}, and not {}", self.name()),
            None => "the article has no editor yet".to_owned(),
        }
    }

    fn forbidding_status(&self) -> String {
        format!("the article is `{}`, and `{}` is not possible in that status", self.status(), self.verb())
    }

    fn passed(&self, rule: RuleName) -> String {
        let (name, who) = (self.name(), self.question.who);
        match rule {
            RuleName::AccountStatus => format!("{name}'s account is active"),
            RuleName::Visibility if self.is_author() => format!("{name} sees the article as its author"),
            RuleName::Visibility if self.is_editor() => format!("{name} sees the article as its editor"),
            RuleName::Visibility => format!("{name} sees every article: the role `{}` holds `articles:read_all`", who.role),
            RuleName::Role => format!("the role `{}` holds `{}`", who.role, self.needed()),
            RuleName::Relation if self.is_author() => format!("{name} is the article's author"),
            RuleName::Relation => format!("{name} is the article's editor"),
            RuleName::ArticleStatus => format!("the article is `{}`, and `{}` is possible in that status", self.status(), self.verb()),
            RuleName::Scope => format!("the token's scope names `{}`", self.needed()),
            RuleName::Grant => "it is inside of what the impersonation was started for".to_owned(),
            RuleName::Mode => match self.question.action {
                Action::Read => "it changes nothing".to_owned(),
                _ => "the impersonation may change things".to_owned(),
            },
            RuleName::Policy => "the policy does not refuse it under impersonation".to_owned(),
            RuleName::Freeze => "impersonation is not frozen".to_owned(),
        }
    }

    fn not_applicable(&self, rule: RuleName) -> String {
        let text = match rule {
            RuleName::AccountStatus => "",
            RuleName::Visibility | RuleName::ArticleStatus if self.question.article.is_none() => "no article is there yet",
            RuleName::Visibility => "",
            RuleName::ArticleStatus => "in every status",
            RuleName::Role if self.findings.needed.is_some() => "no role is asked of an author",
            RuleName::Role => "it takes no permission",
            RuleName::Relation => "it takes neither the author nor the editor",
            RuleName::Scope if self.findings.is_missing_permission => "what the role does not hold, no scope gives",
            RuleName::Scope => "the token reaches as far as the user does",
            RuleName::Grant | RuleName::Mode | RuleName::Policy | RuleName::Freeze => "nobody acts as the user here",
        };
        text.to_owned()
    }

    /// What would make a failed rule pass; nothing where nobody can change it.
    fn remedy(&self, rule: RuleName) -> Option<String> {
        let name = self.name();
        match rule {
            RuleName::AccountStatus => Some(format!("enable {name}'s account")),
            RuleName::Role => {
                let needed = self.findings.needed?;
                let roles: Vec<String> = Role::ALL.iter().filter(|role| role.holds(needed)).map(|role| format!("`{role}`")).collect();
                Some(format!("give {name} a role that holds `{needed}`: {}", roles.join(" or ")))
            }
            // Its author stays its author; who may edit can be made its editor.
            RuleName::Visibility | RuleName::Relation => self.can_become_editor().then(|| format!("assign {name} as the article's editor")),
            RuleName::ArticleStatus => self.way_to_status(),
            RuleName::Scope => Some(format!("use a token whose scope names `{}`", self.needed())),
            RuleName::Grant => Some("log out of the impersonation and start one that is not bound so".to_owned()),
            RuleName::Mode => Some("log out of the impersonation and start one in mode `full`, if the policy lets you".to_owned()),
            RuleName::Policy => Some(format!("let {name} do it in person")),
            RuleName::Freeze => Some("lift the freeze".to_owned()),
        }
    }

    fn can_become_editor(&self) -> bool {
        let Some(article) = self.question.article else { return false };
        let takes_editor = matches!(
            self.question.action,
            Action::Read | Action::StartReview | Action::RequestRevision | Action::Accept | Action::Reject | Action::RevertDecision
        ) || (self.question.action == Action::Edit && self.question.part == Part::Any);
        let can_be_assigned = WorkflowStep::AssignEditor.leads_to(article.status).is_some();
        takes_editor && can_be_assigned && !self.is_author() && self.question.who.role.holds(Permission::ArticlesEditAssigned)
    }

    /// The first step of the shortest way to a status in which the action is possible.
    fn way_to_status(&self) -> Option<String> {
        let whose = Whose { is_author: self.is_author(), is_editor: self.is_editor(), part: self.question.part };
        let mut seen = vec![self.question.article?.status];
        let mut ways: Vec<(ArticleStatus, Option<WorkflowStep>)> = vec![(seen[0], None)];
        let mut next = 0;
        while let Some(&(status, first)) = ways.get(next) {
            next += 1;
            if status_allows(self.question.action, status, whose) {
                return first.map(first_step);
            }
            for step in WorkflowStep::ALL {
                // Withdrawing is no way to anywhere.
                if let Some(to) = step.leads_to(status).filter(|to| *step != WorkflowStep::Withdraw && !seen.contains(to)) {
                    seen.push(to);
                    ways.push((to, first.or(Some(*step))));
                }
            }
        }
        None
    }
}

fn first_step(step: WorkflowStep) -> String {
    let text = match step {
        WorkflowStep::Submit => "submit the article first",
        WorkflowStep::AssignEditor => "assign an editor first",
        WorkflowStep::StartReview => "start the review first",
        WorkflowStep::RequestRevision => "request a revision first",
        WorkflowStep::Accept => "accept the article first",
        WorkflowStep::Reject => "reject the article first",
        WorkflowStep::RevertDecision => "revert the decision first",
        WorkflowStep::Publish => "publish the article first",
        WorkflowStep::Withdraw => "withdraw the article first",
    };
    text.to_owned()
}

const READ_ONLY: &str = "this impersonation is read-only";

/// What is said of a change under an impersonation that may only look.
pub fn read_only() -> String {
    READ_ONLY.to_owned()
}

fn outside_resources() -> String {
    "the impersonation was started for other resources alone".to_owned()
}

fn outside_permissions(needed: &str) -> String {
    format!("the impersonation was not started for `{needed}`")
}

fn refused_by_policy(action: Action) -> String {
    format!("the policy refuses `{action}` under impersonation")
}

/// 403 `outside_grant` with that reason alone.
fn outside_grant(detail: String) -> Error {
    Error::refused(Code::OutsideGrant, detail.clone(), vec![Reason::new(ReasonCode::OutsideGrant, detail)])
}
