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
use super::user::{Principal, UserRef};

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
        /// Whether impersonation is frozen. What is frozen has ended, so this never fails.
        Freeze => "freeze",
    }
}

impl RuleName {
    /// Whether it is about an impersonation, and would not hold for the user.
    const fn is_of_impersonation(self) -> bool {
        matches!(self, Self::Grant | Self::Mode | Self::Policy | Self::Freeze)
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
    /// Whether impersonation is frozen, for telling: it ends before anything is asked under it.
    pub is_frozen: bool,
}

impl<'a> Question<'a> {
    /// What the user may do in person, with the token with which they are here.
    pub fn of_user(who: &'a Principal, action: impl Into<Action>, article: Option<&'a Article>) -> Self {
        Self { who, hold: None, action: action.into(), article, part: Part::Any, editor: None, is_frozen: false }
    }

    /// The same under an impersonation, if there is one.
    #[must_use]
    pub fn under(self, hold: Option<Hold<'a>>) -> Self {
        Self { hold, ..self }
    }
}

/// That an action was found allowed. What changes an article for a caller takes one, so that nothing is changed that was not decided; undoing has rules of its own.
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
    is_refused_action: bool,
    is_refused_call: bool,
}

/// Decides. The user's own part and the impersonation's are both looked at, whatever comes of either.
pub fn decide(question: Question<'_>) -> Decision<'_> {
    let Question { who, hold, action, article, part, editor, .. } = question;
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
        is_refused_action: false,
        is_refused_call: false,
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
    if let Some(Hold { mode, bounds, policy, .. }) = hold {
        found.is_other_resource = match article {
            Some(article) => !bounds.cover(article.id),
            None => bounds.articles.is_some(),
        };
        found.is_other_permission = needed.is_some_and(|needed| !found.is_missing_permission && !bounds.permit(needed));
        found.is_read_only = action != Action::Read && mode == Mode::ReadOnly;
        found.is_refused_action = action.of_article().is_some_and(|action| policy.refuses_action(action));
        found.is_refused_call = policy.refuses_call(action.operation_id());
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
        found.is_other_resource || found.is_other_permission || found.is_read_only || self.is_refused()
    }

    fn is_refused(&self) -> bool {
        self.findings.is_refused_action || self.findings.is_refused_call
    }

    /// Everything that stands in the way, each with the rule that says so: the user's own, and then what is withheld.
    fn failures(&self) -> Vec<(RuleName, Reason)> {
        let found = &self.findings;
        let mut failures = Vec::new();
        let mut add = |applies: bool, rule, code, detail: &dyn Fn() -> String| {
            if applies {
                failures.push((rule, Reason::new(code, detail())));
            }
        };
        add(found.is_disabled, RuleName::AccountStatus, ReasonCode::AccountDisabled, &|| format!("{}'s account is disabled", self.name()));
        add(found.is_invisible, RuleName::Visibility, ReasonCode::NotVisible, &|| self.invisible());
        add(found.is_missing_permission, RuleName::Role, ReasonCode::MissingPermission, &|| {
            format!("the role `{}` does not hold `{}`", self.question.who.role, self.needed())
        });
        add(found.is_not_author, RuleName::Relation, ReasonCode::NotAuthor, &|| self.not_author());
        add(found.is_not_editor, RuleName::Relation, ReasonCode::NotEditor, &|| self.not_editor());
        add(found.is_status_forbidding, RuleName::ArticleStatus, ReasonCode::StatusForbids, &|| self.forbidding_status());
        add(found.is_lacking_scope, RuleName::Scope, ReasonCode::InsufficientScope, &|| {
            format!("the token's scope lacks `{}`", self.needed())
        });
        add(found.is_conflict, RuleName::Relation, ReasonCode::ConflictOfInterest, &|| {
            "an article's author can't be its editor".to_owned()
        });
        add(found.is_other_resource, RuleName::Grant, ReasonCode::OutsideGrant, &outside_resources);
        add(found.is_other_permission, RuleName::Grant, ReasonCode::OutsideGrant, &|| outside_permissions(self.needed()));
        add(found.is_read_only, RuleName::Mode, ReasonCode::OutsideGrant, &read_only);
        add(self.is_refused(), RuleName::Policy, ReasonCode::ForbiddenUnderImpersonation, &|| refused_by_policy(self.refused()));
        failures
    }

    /// Every reason why not: the user's own, and then what is withheld.
    pub fn reasons(&self) -> Vec<Reason> {
        self.failures().into_iter().map(|(_, reason)| reason).collect()
    }

    /// Why the user may not, in person.
    pub fn reasons_of_user(&self) -> Vec<Reason> {
        self.failures().into_iter().filter(|(rule, _)| !rule.is_of_impersonation()).map(|(_, reason)| reason).collect()
    }

    /// What the impersonation withholds of it.
    pub fn withheld(&self) -> Vec<Reason> {
        self.failures().into_iter().filter(|(rule, _)| rule.is_of_impersonation()).map(|(_, reason)| reason).collect()
    }

    /// Demands that it is allowed.
    ///
    /// # Errors
    /// With all reasons: 404 where the article is not to be known of; 403 `outside_grant`, `read_only_impersonation` or `forbidden_under_impersonation` where the
    /// impersonation withholds it; 403 `missing_permission` or `action_refused` where the person may not, `insufficient_scope` where only the token's scope is too
    /// narrow; else 409 `status_forbids` where only the status is in the way. Of an article outside of the grant nothing else is told.
    pub fn require(&self) -> Result<Allowed> {
        if self.is_allowed() {
            return Ok(Allowed(()));
        }
        self.require_sight()?;
        let found = &self.findings;
        let reasons = self.reasons();
        if self.is_withheld() {
            let (code, detail) = if self.is_refused() {
                (Code::ForbiddenUnderImpersonation, refused_by_policy(self.refused()))
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

    /// Demands that the article may be looked at: that the user may know of it, and that it is inside of what the impersonation was started for.
    ///
    /// # Errors
    /// 404; 403 `outside_grant`, with that reason alone.
    pub fn require_sight(&self) -> Result<()> {
        if self.findings.is_invisible {
            return Err(Error::not_found());
        }
        if self.findings.is_other_resource && self.question.article.is_some() {
            let detail = outside_resources();
            return Err(Error::refused(Code::OutsideGrant, detail.clone(), vec![Reason::new(ReasonCode::OutsideGrant, detail)]));
        }
        Ok(())
    }

    /// The whole chain, each rule with its outcome.
    pub fn rules(&self) -> Vec<Rule> {
        let failures = self.failures();
        let chain = RuleName::ALL.iter().map(|&rule| {
            let reasons: Vec<Reason> = failures.iter().filter(|(failed, _)| *failed == rule).map(|(_, reason)| reason.clone()).collect();
            let (outcome, detail) = if !reasons.is_empty() {
                (RuleOutcome::Failed, reasons.iter().map(|reason| &*reason.detail).collect::<Vec<_>>().join("; "))
            } else if self.applies(rule) {
                (RuleOutcome::Passed, self.passed(rule))
            } else {
                (RuleOutcome::NotApplicable, self.not_applicable(rule))
            };
            Rule { rule, outcome, detail, reasons }
        });
        chain.collect()
    }

    /// Whether a rule that did not fail was asked at all.
    fn applies(&self, rule: RuleName) -> bool {
        let (question, found) = (&self.question, &self.findings);
        match rule {
            RuleName::AccountStatus => true,
            RuleName::Visibility => question.article.is_some(),
            RuleName::Role => found.is_the_roles,
            RuleName::Relation => self.takes_author() || self.takes_editor(),
            RuleName::ArticleStatus => question.article.is_some() && question.action != Action::Read,
            RuleName::Scope => question.who.scope.is_some() && found.needed.is_some() && !found.is_missing_permission,
            RuleName::Grant | RuleName::Mode | RuleName::Policy | RuleName::Freeze => question.hold.is_some(),
        }
    }

    fn name(&self) -> &'a str {
        self.question.who.user.display_name.as_str()
    }

    /// The action without what it is done with.
    fn verb(&self) -> &'static str {
        self.question.action.as_str().trim_start_matches("article.")
    }

    /// What the policy names that it refuses.
    fn refused(&self) -> &'static str {
        if self.findings.is_refused_action { self.question.action.as_str() } else { self.question.action.operation_id() }
    }

    fn needed(&self) -> &'static str {
        self.findings.needed.map_or("", Permission::as_str)
    }

    fn status(&self) -> &'static str {
        self.question.article.map_or("", |article| article.status.as_str())
    }

    fn editor(&self) -> Option<&'a UserRef> {
        self.question.article?.editor.as_ref()
    }

    fn is_author(&self) -> bool {
        self.question.article.is_some_and(|article| article.is_author(self.question.who.id()))
    }

    fn is_editor(&self) -> bool {
        self.question.article.is_some_and(|article| article.is_editor(self.question.who.id()))
    }

    fn takes_author(&self) -> bool {
        matches!(self.question.action, Action::Edit | Action::Delete | Action::Submit | Action::Withdraw)
    }

    fn takes_editor(&self) -> bool {
        match self.question.action {
            Action::Edit => self.question.part == Part::Any,
            Action::StartReview | Action::RequestRevision | Action::Accept | Action::Reject | Action::RevertDecision => true,
            _ => false,
        }
    }

    fn invisible(&self) -> String {
        format!("{} can't see the article: neither its author, nor its editor, nor a holder of `articles:read_all`", self.name())
    }

    fn not_author(&self) -> String {
        match self.question.part {
            Part::Body => format!("only the article's author edits its body, and that is not {}", self.name()),
            Part::Any => format!("{} is not the article's author", self.name()),
        }
    }

    fn not_editor(&self) -> String {
        match self.editor() {
            // Two people may have one name.
            Some(editor) if editor.display_name == self.question.who.user.display_name => {
                format!("the article's editor is {} ({}), and not {}", editor.display_name, editor.email, self.question.who.user.email)
            }
            Some(editor) => format!("the article's editor is {}, and not {}", editor.display_name, self.name()),
            None => "the article has no editor yet".to_owned(),
        }
    }

    fn forbidding_status(&self) -> String {
        if self.question.action == Action::Edit && self.question.part == Part::Body {
            return format!("the article is `{}`, and its body is not edited in that status", self.status());
        }
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
            RuleName::Relation if self.question.action == Action::Edit => {
                format!("{name} is the article's editor, who edits its title and abstract")
            }
            RuleName::Relation => format!("{name} is the article's editor"),
            RuleName::ArticleStatus => format!("the article is `{}`, and `{}` is possible in that status", self.status(), self.verb()),
            RuleName::Scope => format!("the token's scope names `{}`", self.needed()),
            RuleName::Grant => "it is inside of what the impersonation was started for".to_owned(),
            RuleName::Mode if self.question.action == Action::Read => "it changes nothing, so the mode does not matter".to_owned(),
            RuleName::Mode => "the impersonation may change things".to_owned(),
            RuleName::Policy => "the policy does not refuse it under impersonation".to_owned(),
            RuleName::Freeze => "impersonation is not frozen".to_owned(),
        }
    }

    fn not_applicable(&self, rule: RuleName) -> String {
        let name = self.name();
        match rule {
            RuleName::AccountStatus => String::new(),
            RuleName::Visibility => "it is about no article that is there".to_owned(),
            RuleName::ArticleStatus if self.question.article.is_none() => "it is about no article that is there".to_owned(),
            RuleName::ArticleStatus => "an article can be looked at in every status".to_owned(),
            RuleName::Role if self.findings.needed.is_some() => "it takes the article's author, in whatever role".to_owned(),
            RuleName::Role => "it takes no permission".to_owned(),
            RuleName::Relation => "it takes neither the author nor the editor".to_owned(),
            RuleName::Scope if self.findings.needed.is_none() => "it takes no permission".to_owned(),
            RuleName::Scope if self.question.who.scope.is_none() => "no token with a scope of its own is used".to_owned(),
            RuleName::Scope => "what the role does not hold, no scope gives".to_owned(),
            RuleName::Freeze if self.question.is_frozen => {
                format!("impersonation is frozen, so nobody acts as {name} now; that does not concern {name} in person")
            }
            RuleName::Grant | RuleName::Mode | RuleName::Policy | RuleName::Freeze => format!("nobody acts as {name} here"),
        }
    }

    /// What would help, all of it and in this order: to make it possible for the user, or to have it done by whom it takes. Nothing where it is possible, and
    /// nothing where nothing would help.
    pub fn remedies(&self) -> Vec<String> {
        let mut remedies = self.remedies_for_user().unwrap_or_default();
        if remedies.is_empty() && !self.is_allowed_to_user() {
            return remedies;
        }
        let (found, name) = (&self.findings, self.name());
        if found.is_other_resource {
            remedies.push("log out of the impersonation, and start one for this article".to_owned());
        }
        if found.is_other_permission {
            remedies.push(format!("log out of the impersonation, and start one for `{}`", self.needed()));
        }
        let is_held_by_policy = self.question.hold.is_some_and(|hold| hold.is_read_only_by_policy);
        if found.is_read_only && !is_held_by_policy {
            remedies.push("log out of the impersonation, and start one in mode `full`".to_owned());
        }
        if self.is_refused() || (found.is_read_only && is_held_by_policy) {
            remedies.push(format!("let {name} do it in person"));
        }
        remedies
    }

    /// Nothing where the user may, or nothing would help.
    fn remedies_for_user(&self) -> Option<Vec<String>> {
        let (found, name) = (&self.findings, self.name());
        let mut remedies = Vec::new();
        if found.is_disabled {
            remedies.push(format!("enable {name}'s account"));
        }
        let is_in_the_way = found.is_missing_permission
            || found.is_invisible
            || found.is_not_author
            || found.is_not_editor
            || found.is_status_forbidding
            || found.is_conflict;
        if is_in_the_way {
            remedies.extend(self.way()?);
        }
        if found.is_lacking_scope {
            remedies.push(format!("use a token whose scope names `{}`", self.needed()));
        }
        Some(remedies)
    }

    /// The shortest way to where it is possible: steps that others take first, and who then does it, where that can't be the user.
    fn way(&self) -> Option<Vec<String>> {
        let Some(article) = self.question.article else { return self.other_doer().map(|other| vec![other]) };
        if self.findings.is_conflict || self.is_pointless(article.status) {
            return None;
        }
        let other = self.other_doer();
        // An editor who could be assigned is one who is not the author, and whose role may edit.
        let can_be_editor = other.is_none() && !self.is_author() && self.question.who.role.holds(Permission::ArticlesEditAssigned);
        let start = Place {
            status: article.status,
            editor: match &article.editor {
                None => Editor::None,
                Some(_) if self.is_editor() => Editor::Who,
                Some(_) => Editor::Other,
            },
        };
        let is_there = |place: Place| match (&other, self.question.action) {
            // Whoever it takes instead is its author, its editor, or somebody else in the role.
            (Some(_), action) => {
                let is_author = self.findings.is_not_author;
                let whose = Whose { is_author, is_editor: !is_author, part: self.question.part };
                status_allows(action, place.status, whose) && (is_author || !self.takes_editor() || place.editor != Editor::None)
            }
            (None, Action::Read) => place.editor == Editor::Who,
            (None, action) => {
                let whose = Whose { is_author: self.is_author(), is_editor: place.editor == Editor::Who, part: self.question.part };
                let is_the_one = whose.is_author || whose.is_editor || !(self.takes_author() || self.takes_editor());
                let sees = whose.is_author || whose.is_editor || self.question.who.holds(Permission::ArticlesReadAll);
                is_the_one && sees && status_allows(action, place.status, whose)
            }
        };
        let mut ways = vec![(start, Vec::new())];
        let mut next = 0;
        while let Some((place, way)) = ways.get(next).cloned() {
            next += 1;
            if is_there(place) {
                let mut steps: Vec<String> = way.iter().map(|(step, editor)| self.first_step(*step, *editor)).collect();
                steps.extend(other);
                return Some(steps);
            }
            for step in WorkflowStep::ALL {
                if let Some(to) = place.after(*step, can_be_editor)
                    && !ways.iter().any(|(seen, _)| *seen == to)
                {
                    let longer = way.iter().copied().chain([(*step, to.editor)]).collect();
                    ways.push((to, longer));
                }
            }
        }
        None
    }

    /// Whether the way there would undo what the action itself is for.
    fn is_pointless(&self, status: ArticleStatus) -> bool {
        use ArticleStatus::{Accepted, Draft, Rejected, Submitted, UnderReview};
        match self.question.action {
            // A decision is not made in order to be reverted.
            Action::RevertDecision => !matches!(status, Accepted | Rejected),
            Action::Submit => status == Submitted,
            Action::StartReview => status == UnderReview,
            Action::Withdraw => status == Draft,
            _ => false,
        }
    }

    /// Who it takes instead of the user, if the user can't be the one: somebody in another role, the author, or the editor.
    fn other_doer(&self) -> Option<String> {
        let found = &self.findings;
        if found.is_missing_permission {
            let needed = found.needed?;
            let roles: Vec<String> = Role::ALL.iter().filter(|role| role.holds(needed)).map(|role| format!("`{role}`")).collect();
            return Some(format!("let somebody do it whose role holds `{needed}`: {}", roles.join(" or ")));
        }
        let may_edit = self.question.who.role.holds(Permission::ArticlesEditAssigned);
        let article = self.question.article?;
        if found.is_not_author && !(self.takes_editor() && may_edit) {
            return Some(format!("let {}, its author, do it", article.author.display_name));
        }
        // Nobody edits what they wrote.
        (found.is_not_editor && self.is_author()).then(|| match &article.editor {
            Some(editor) => format!("let {}, its editor, do it", editor.display_name),
            None => "let its editor do it".to_owned(),
        })
    }

    fn first_step(&self, step: WorkflowStep, editor: Editor) -> String {
        match (step, editor) {
            (WorkflowStep::AssignEditor, Editor::Who) => format!("assign {} as the article's editor", self.name()),
            (WorkflowStep::AssignEditor, _) => "assign an editor first".to_owned(),
            (WorkflowStep::Submit, _) => "submit the article first".to_owned(),
            (WorkflowStep::StartReview, _) => "start the review first".to_owned(),
            (WorkflowStep::RequestRevision, _) => "request a revision first".to_owned(),
            (WorkflowStep::RevertDecision, _) => "revert the decision first".to_owned(),
            (other, _) => format!("{other} the article first"),
        }
    }
}

/// Where an article could stand, as far as ways lead from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    status: ArticleStatus,
    editor: Editor,
}

/// Who the article's editor is, seen from whom it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Editor {
    None,
    Who,
    Other,
}

impl Place {
    /// Where a step leads that somebody else takes; an editor's takes an editor.
    fn after(self, step: WorkflowStep, can_be_editor: bool) -> Option<Self> {
        let status = step.leads_to(self.status)?;
        match step {
            // No way leads on from there.
            WorkflowStep::Withdraw | WorkflowStep::Publish => None,
            WorkflowStep::Submit => Some(Self { status, ..self }),
            WorkflowStep::AssignEditor if can_be_editor => Some(Self { status, editor: Editor::Who }),
            WorkflowStep::AssignEditor => Some(Self { status, editor: Editor::Other }),
            _ => (self.editor != Editor::None).then_some(Self { status, ..self }),
        }
    }
}

/// What is said of a change under an impersonation that may only look.
pub fn read_only() -> String {
    "this impersonation is read-only".to_owned()
}

/// What is said of what an impersonation was not started for.
pub fn outside_resources() -> String {
    "the impersonation was started for other resources alone".to_owned()
}

/// What is said of a permission for which an impersonation was not started.
pub fn outside_permissions(needed: &str) -> String {
    format!("the impersonation was not started for `{needed}`")
}

/// What is said of what the policy refuses under impersonation: a call, or an action.
pub fn refused_by_policy(refused: &str) -> String {
    format!("the policy refuses `{refused}` under impersonation")
}

#[cfg(test)]
mod tests {
    use super::super::impersonation::Bounds;
    use super::super::policy::{Policy, RefusedOperation};
    use super::super::scope::Scope;
    use super::super::text::{Abstract, Body, DisplayName, Email, Title};
    use super::super::user::UserStatus;
    use super::super::{Time, ids::ArticleId};
    use super::*;

    fn person(role: Role, name: &str) -> Principal {
        let user = UserRef {
            id: UserId::new(Time::UNIX_EPOCH),
            email: Email::parse(&format!("{}@example.org", name.to_lowercase())).unwrap(),
            display_name: DisplayName::parse(name).unwrap(),
        };
        Principal { user, role, status: UserStatus::Active, scope: None }
    }

    fn article(status: ArticleStatus, author: &Principal, editor: Option<&Principal>) -> Article {
        Article {
            id: ArticleId::new(Time::UNIX_EPOCH),
            title: Title::parse("On tides").unwrap(),
            r#abstract: Abstract::parse("").unwrap(),
            body: Body::parse("").unwrap(),
            status,
            author: author.user.clone(),
            editor: editor.map(|editor| editor.user.clone()),
            version: 1,
            created_at: Time::UNIX_EPOCH,
            updated_at: Time::UNIX_EPOCH,
        }
    }

    struct Cast {
        author: Principal,
        editor: Principal,
        admin: Principal,
    }

    impl Cast {
        fn new() -> Self {
            Self { author: person(Role::Author, "Ann"), editor: person(Role::Editor, "Emma"), admin: person(Role::Administrator, "Ada") }
        }
    }

    /// Everything that a person, a status, a relation and an action can be together.
    fn each(mut see: impl FnMut(&Cast, &Principal, &Article, Action)) {
        let cast = Cast::new();
        for role in Role::ALL {
            let who = person(*role, "Will");
            for status in ArticleStatus::ALL {
                let editor = (*status != ArticleStatus::Draft).then_some(&cast.editor);
                let mut articles = vec![article(*status, &who, editor), article(*status, &cast.author, editor)];
                if editor.is_some() {
                    articles.push(article(*status, &cast.author, Some(&who)));
                }
                if *status == ArticleStatus::Submitted {
                    articles.extend([article(*status, &who, None), article(*status, &cast.author, None)]);
                }
                for article in &articles {
                    Action::ALL.iter().filter(|action| **action != Action::Create).for_each(|action| see(&cast, &who, article, *action));
                }
            }
        }
    }

    /// Does what a remedy says, if it is one step; answers who does the rest, if it says that somebody else does.
    fn follow<'a>(remedy: &str, cast: &'a Cast, who: &Principal, article: &mut Article) -> Option<&'a Principal> {
        let step = |step: WorkflowStep, article: &mut Article| article.status = step.leads_to(article.status).unwrap();
        match remedy {
            "submit the article first" => step(WorkflowStep::Submit, article),
            "start the review first" => step(WorkflowStep::StartReview, article),
            "request a revision first" => step(WorkflowStep::RequestRevision, article),
            "revert the decision first" => step(WorkflowStep::RevertDecision, article),
            "accept the article first" => step(WorkflowStep::Accept, article),
            "assign an editor first" => article.editor = Some(cast.editor.user.clone()),
            "assign Will as the article's editor" => article.editor = Some(who.user.clone()),
            "let Ann, its author, do it" => return Some(&cast.author),
            "let Emma, its editor, do it" | "let its editor do it" => return Some(&cast.editor),
            other => {
                assert!(other.starts_with("let somebody do it whose role holds"), "{other}");
                let is_editors = other.contains("articles:edit_assigned");
                return Some(if is_editors { &cast.editor } else { &cast.admin });
            }
        }
        None
    }

    #[test]
    fn whoever_follows_the_remedies_gets_there_and_never_in_circles() {
        let (mut helped, mut hopeless) = (0, Vec::new());
        each(|cast, who, article, action| {
            let decision = decide(Question::of_user(who, action, Some(article)));
            let remedies = decision.remedies();
            assert_eq!(decision.is_allowed(), decision.require().is_ok());
            if decision.is_allowed() {
                assert!(remedies.is_empty());
                return;
            }
            if remedies.is_empty() {
                hopeless.push((action, article.status));
                return;
            }
            let mut article = article.clone();
            let name = format!("{action} by a {} of {} article: {remedies:?}", who.role, article.status);
            let mut other = None;
            for remedy in &remedies {
                assert!(other.is_none(), "nothing comes after another: {name}");
                // Whoever edits instead of the one who has no such role is the article's editor.
                other = follow(remedy, cast, who, &mut article);
            }
            let mut doer = other.unwrap_or(who).clone();
            // Its own editor, where that is somebody else than ours.
            if let (Some(_), Some(editor)) = (other, &article.editor)
                && doer.id() == cast.editor.id()
            {
                doer.user = editor.clone();
            }
            if remedies.last().is_some_and(|last| last.starts_with("let Ann")) {
                doer.user = article.author.clone();
            }
            assert!(decide(Question::of_user(&doer, action, Some(&article))).is_allowed(), "{name}");
            helped += 1;
        });
        assert!(helped > 300, "{helped}");
        // Where nothing helps: what is final, what can't be taken back, and what has been done.
        for (action, status) in hopeless {
            use ArticleStatus::{Draft, Published, Submitted, UnderReview, Withdrawn};
            let is_final = matches!(status, Published | Withdrawn);
            let is_done = matches!((action, status), (Action::Submit, Submitted) | (Action::StartReview, UnderReview));
            let is_undone = matches!(action, Action::RevertDecision | Action::Read) || action == Action::Delete && status != Draft;
            assert!(is_final || is_done || is_undone || (action, status) == (Action::Withdraw, Draft), "{action} in {status}");
        }
    }

    #[test]
    fn the_chain_says_the_same_as_the_reasons_and_every_rule_has_a_sentence() {
        let mut policy = Policy::initial(Time::UNIX_EPOCH);
        policy.terms.refused_operations =
            vec![RefusedOperation::Call("update_article"), RefusedOperation::parse("article.accept").unwrap()];
        each(|_, who, article, action| {
            for (mode, permissions, articles) in [
                (Mode::Full, None, None),
                (Mode::ReadOnly, Some(Scope::EMPTY), None),
                (Mode::Full, Some(Scope::of_role(who.role)), Some(vec![article.id])),
                (Mode::Full, None, Some(vec![ArticleId::new(Time::UNIX_EPOCH)])),
            ] {
                let bounds = Bounds { permissions, articles };
                let hold = Hold { mode, is_read_only_by_policy: false, bounds: &bounds, policy: &policy };
                let asked = Question::of_user(who, action, Some(article));
                let (in_person, held) = (decide(asked), decide(asked.under(Some(hold))));
                assert_eq!(held.is_allowed_to_user(), in_person.is_allowed());
                assert_eq!(held.reasons_of_user(), in_person.reasons());
                assert_eq!(held.is_allowed(), in_person.is_allowed() && held.withheld().is_empty());
                for decision in [in_person, held] {
                    let told: Vec<Reason> = decision.rules().into_iter().flat_map(|rule| rule.reasons).collect();
                    let mut reasons = decision.reasons();
                    assert_eq!(told.len(), reasons.len());
                    reasons.retain(|reason| !told.contains(reason));
                    assert!(reasons.is_empty());
                    assert!(decision.rules().iter().all(|rule| !rule.detail.is_empty()), "{action}");
                    match decision.require() {
                        Ok(_) => assert!(decision.is_allowed()),
                        Err(error) if error.code() == Code::NotFound => assert!(error.reasons().is_empty()),
                        Err(error) if decision.require_sight().is_err() => assert_eq!(error.reasons().len(), 1),
                        Err(error) => assert_eq!(error.reasons(), decision.reasons()),
                    }
                }
            }
        });
    }

    #[test]
    fn a_mode_that_the_policy_demands_is_no_reason_to_start_another() {
        let cast = Cast::new();
        let (article, policy) = (article(ArticleStatus::Draft, &cast.author, None), Policy::initial(Time::UNIX_EPOCH));
        let bounds = Bounds::default();
        let remedies = |is_read_only_by_policy| {
            let hold = Hold { mode: Mode::ReadOnly, is_read_only_by_policy, bounds: &bounds, policy: &policy };
            decide(Question::of_user(&cast.author, Action::Edit, Some(&article)).under(Some(hold))).remedies()
        };
        assert_eq!(remedies(false), ["log out of the impersonation, and start one in mode `full`"]);
        assert_eq!(remedies(true), ["let Ann do it in person"]);
    }

    #[test]
    fn the_editor_of_two_with_one_name_is_told_apart() {
        let cast = Cast::new();
        let mut namesake = person(Role::Editor, "Emma");
        namesake.user.email = Email::parse("emma.two@example.org").unwrap();
        let article = article(ArticleStatus::UnderReview, &cast.author, Some(&cast.editor));
        let detail = decide(Question::of_user(&namesake, Action::Accept, Some(&article))).reasons_of_user().pop().unwrap().detail;
        assert_eq!(detail, "the article's editor is Emma (emma@example.org), and not emma.two@example.org");
    }
}
