//! What holds of the rules whatever they are fed: cursors, the workflow, and the ceiling of impersonation.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what is wrong by panicking")]

use actas::domain::article::{Article, ArticleAction, ArticleStatus, WorkflowStep};
use actas::domain::decision::{Question, RuleOutcome, decide};
use actas::domain::error::ReasonCode;
use actas::domain::identity::Viewer;
use actas::domain::ids::{ArticleId, SessionId, UserId};
use actas::domain::impersonation::{Posture, broken_ceiling, caller_refusals, refusals};
use actas::domain::page::{Limit, Page, Seq, decode_cursor, encode_cursor};
use actas::domain::policy::Policy;
use actas::domain::role::{Permission, Role};
use actas::domain::scope::Scope;
use actas::domain::text::{Abstract, Body, DisplayName, Email, Title};
use actas::domain::user::{Principal, UserRef, UserStatus};
use chrono::DateTime;
use proptest::prelude::*;
use proptest::sample::select;

fn user_id() -> impl Strategy<Value = UserId> {
    (0_i64..4_000_000_000, any::<u32>())
        .prop_map(|(seconds, nanos)| UserId::new(DateTime::from_timestamp(seconds, nanos % 1_000_000_000).unwrap()))
}

fn principal() -> impl Strategy<Value = Principal> {
    (user_id(), select(Role::ALL), select(UserStatus::ALL)).prop_map(|(id, role, status)| {
        let user = UserRef { id, email: Email::parse("a@example.org").unwrap(), display_name: DisplayName::parse("A").unwrap() };
        Principal { user, role, status, scope: None }
    })
}

fn article(author: &Principal, editor: Option<&Principal>, status: ArticleStatus) -> Article {
    let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    Article {
        id: ArticleId::new(now),
        title: Title::parse("T").unwrap(),
        r#abstract: Abstract::parse("").unwrap(),
        body: Body::parse("").unwrap(),
        status,
        author: author.user.clone(),
        editor: editor.map(|editor| editor.user.clone()),
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

proptest! {
    #[test]
    fn a_cursor_leads_back_to_its_key(seq in 1..i64::MAX, user in user_id()) {
        prop_assert_eq!(decode_cursor::<Seq>(&encode_cursor(&Seq(seq))), Some(Seq(seq)));
        prop_assert_eq!(decode_cursor::<UserId>(&encode_cursor(&user)), Some(user));
    }

    #[test]
    fn a_cursor_of_another_listing_is_refused(seq in 1..i64::MAX, user in user_id()) {
        let (of_history, of_users) = (encode_cursor(&Seq(seq)), encode_cursor(&user));
        prop_assert_eq!(decode_cursor::<UserId>(&of_history), None);
        prop_assert_eq!(decode_cursor::<Seq>(&of_users), None);
        prop_assert_eq!(decode_cursor::<ArticleId>(&of_users), None);
        prop_assert_eq!(decode_cursor::<SessionId>(&of_users), None);
    }

    /// A bent cursor is refused, or is another listing place written exactly as we would write it; nothing is read in two ways.
    #[test]
    fn a_bent_cursor_has_no_second_spelling(user in user_id(), place in any::<prop::sample::Index>(), with in any::<char>(), kind in 0..3) {
        let cursor = encode_cursor(&user);
        let mut chars: Vec<char> = cursor.chars().collect();
        let place = place.index(chars.len());
        match kind {
            0 => chars[place] = with,
            1 => chars.insert(place, with),
            _ => drop(chars.remove(place)),
        }
        let bent: String = chars.into_iter().collect();
        if let Some(other) = decode_cursor::<UserId>(&bent) {
            prop_assert_eq!(encode_cursor(&other), bent);
        }
        if kind != 0 {
            prop_assert_eq!(decode_cursor::<UserId>(&encode_cursor(&user)), Some(user));
        }
    }

    #[test]
    fn rubbish_is_no_cursor(text in ".*") {
        prop_assert!(decode_cursor::<Seq>(&text).is_none_or(|seq| encode_cursor(&seq) == text));
        prop_assert!(decode_cursor::<ArticleId>(&text).is_none_or(|id| encode_cursor(&id) == text));
    }

    #[test]
    fn pages_put_together_are_the_whole(total in 0_i64..300, limit in 1_u32..=200) {
        let limit = Limit::new(limit).unwrap();
        let (mut seen, mut after) = (Vec::new(), i64::MAX);
        loop {
            let rows: Vec<i64> = (1..=total).rev().filter(|row| *row < after).take(usize::try_from(limit.rows()).unwrap()).collect();
            let page = Page::from_rows(rows, limit, |row| Seq(*row));
            seen.extend(page.items);
            let Some(cursor) = page.next_cursor else { break };
            after = decode_cursor::<Seq>(&cursor).unwrap().0;
        }
        prop_assert_eq!(seen, (1..=total).rev().collect::<Vec<_>>());
    }

    /// Whatever steps are tried, one after the other, by whomever: every one leads along the contract's table, and what is final stays so.
    #[test]
    fn no_sequence_of_steps_leaves_the_table(steps in prop::collection::vec(select(WorkflowStep::ALL), 0..40)) {
        let table = |from: ArticleStatus, step: WorkflowStep| {
            let to = match (from.as_str(), step.as_str()) {
                ("draft" | "revision_requested", "submit") => "submitted",
                ("submitted" | "under_review" | "revision_requested" | "accepted" | "rejected", "assign_editor") => from.as_str(),
                ("submitted", "start_review") => "under_review",
                ("submitted" | "under_review", "reject") => "rejected",
                ("submitted" | "under_review" | "revision_requested", "withdraw") => "withdrawn",
                ("under_review", "request_revision") => "revision_requested",
                ("under_review", "accept") => "accepted",
                ("accepted", "publish") => "published",
                ("accepted" | "rejected", "revert_decision") => "under_review",
                _ => return None,
            };
            ArticleStatus::parse(to)
        };
        let mut status = ArticleStatus::Draft;
        for step in steps {
            let to = step.leads_to(status);
            prop_assert_eq!(to, table(status, step));
            let is_final = matches!(status, ArticleStatus::Published | ArticleStatus::Withdrawn);
            prop_assert!(!(is_final && to.is_some()));
            status = to.unwrap_or(status);
        }
    }

    /// What is allowed has no reason against it, and a step that is allowed leads somewhere.
    #[test]
    fn a_decision_agrees_with_the_workflow_and_its_chain_with_its_reasons(
        who in principal(), author in principal(), editor in principal(), is_author in any::<bool>(), is_editor in any::<bool>(),
        status in select(ArticleStatus::ALL), action in select(ArticleAction::ALL),
    ) {
        let author = if is_author { who.clone() } else { author };
        let editor = if is_editor && !is_author { who.clone() } else { editor };
        let article = article(&author, Some(&editor), status);
        let decision = decide(Question::of_user(&who, action, Some(&article)));
        let reasons = decision.reasons();
        prop_assert_eq!(decision.is_allowed(), reasons.is_empty());
        // The chain says the same as the reasons, in other words.
        let failed: Vec<_> = decision.rules().into_iter().filter(|rule| rule.outcome == RuleOutcome::Failed).collect();
        prop_assert_eq!(failed.iter().map(|rule| rule.reasons.len()).sum::<usize>(), reasons.len());
        prop_assert!(decision.rules().iter().all(|rule| !rule.detail.is_empty()));
        if decision.is_allowed() {
            if let Some(step) = action.step() {
                prop_assert!(step.leads_to(status).is_some());
            }
            prop_assert!(article.is_visible_to(Viewer::User(&who)));
            prop_assert!(decision.remedies().is_empty());
            let of_office = who.holds(Permission::ArticlesAssignEditor) || who.holds(Permission::ArticlesPublish);
            prop_assert!(author.id() == who.id() || editor.id() == who.id() || of_office);
        }
        let only_status = reasons.iter().all(|reason| reason.code == ReasonCode::StatusForbids);
        let refused = decision.require();
        prop_assert_eq!(refused.is_ok(), decision.is_allowed());
        match refused {
            Err(error) if reasons.iter().any(|reason| reason.code == ReasonCode::NotVisible) => {
                prop_assert_eq!(error.code().as_str(), "not_found");
                prop_assert!(error.reasons().is_empty());
            }
            Err(error) => {
                prop_assert_eq!(error.code().as_str(), if only_status { "status_forbids" } else { "action_refused" });
                prop_assert_eq!(error.reasons().len(), reasons.len());
            }
            Ok(_) => {}
        }
    }

    /// The ceiling: nobody ever gains a privileged permission by acting as another, nor acts as themselves, a peer or someone disabled.
    #[test]
    fn nobody_rises_by_acting_as_another(
        caller in principal(), subject in principal(), nested in any::<bool>(), exchanged in any::<bool>(), same in any::<bool>(),
        is_narrow in any::<bool>(),
    ) {
        let mut subject = if same { caller.clone() } else { subject };
        // How far a token reaches says nothing of who its subject is.
        subject.scope = is_narrow.then_some(Scope::EMPTY);
        let posture = Posture { nested, exchanged };
        let policy = Policy::initial(DateTime::UNIX_EPOCH);
        let reasons = refusals(&caller, &subject, posture, &policy);
        let codes: Vec<_> = reasons.iter().map(|reason| reason.code).collect();
        let gains = Permission::ALL.iter().any(|it| it.is_privileged() && subject.role.holds(*it) && !caller.role.holds(*it));
        for (holds, code) in [
            (!caller.holds(Permission::UsersImpersonate), ReasonCode::MissingPermission),
            (nested, ReasonCode::Nested),
            (exchanged, ReasonCode::ExchangedToken),
            (same, ReasonCode::SelfImpersonation),
            (!subject.is_active(), ReasonCode::SubjectInactive),
            (subject.role.holds(Permission::UsersImpersonate), ReasonCode::SubjectMayImpersonate),
            (gains, ReasonCode::SubjectOutranksCaller),
        ] {
            prop_assert_eq!(codes.contains(&code), holds, "{:?}", code);
        }
        // What a caller learns who may not see users says nothing of the subject.
        let blind = caller_refusals(&caller, subject.id(), posture, &policy);
        prop_assert!(blind.iter().all(|reason| !matches!(
            reason.code,
            ReasonCode::SubjectInactive | ReasonCode::SubjectMayImpersonate | ReasonCode::SubjectOutranksCaller
        )));
        // While it runs, it may go on only as long as it could be started.
        let goes_on = broken_ceiling(&caller, &subject, &policy).is_none();
        prop_assert_eq!(goes_on, caller.is_active() && refusals(&caller, &subject, Posture::PLAIN, &policy).is_empty());
    }
}
