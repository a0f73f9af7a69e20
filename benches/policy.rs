//! What the decision costs in process: at every request, at a start, and when somebody asks why. `cargo bench --bench policy`.
#![allow(clippy::unwrap_used, clippy::missing_docs_in_private_items, reason = "a benchmark that can't begin says so by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use actas::domain::Time;
use actas::domain::article::{Article, ArticleAction, ArticleStatus};
use actas::domain::decision::{Action, Question, decide};
use actas::domain::identity::Identity;
use actas::domain::ids::{ArticleId, SessionId, UserId};
use actas::domain::impersonation::{Bounds, Grant, Mode, Posture, Usage, refusals, start_refusals};
use actas::domain::operation::{ActOnArticle, CreateArticle, GetMe, Operation as _, permit};
use actas::domain::policy::{Policy, RefusedOperation};
use actas::domain::role::{Permission, Role};
use actas::domain::session::{ActingAs, Kind, Session};
use actas::domain::text::{Abstract, Body, DisplayName, Email, Title};
use actas::domain::user::{Principal, UserRef, UserStatus};
use chrono::Duration;
use criterion::{Criterion, criterion_group, criterion_main};

fn principal(role: Role, name: &str, now: Time) -> Principal {
    let user =
        UserRef { id: UserId::new(now), email: Email::parse("a@example.org").unwrap(), display_name: DisplayName::parse(name).unwrap() };
    Principal { user, role, status: UserStatus::Active, scope: None }
}

fn article(author: &Principal, editor: &Principal, now: Time) -> Article {
    Article {
        id: ArticleId::new(now),
        title: Title::parse("On tides").unwrap(),
        r#abstract: Abstract::parse("Why the sea moves.").unwrap(),
        body: Body::parse("It just does.").unwrap(),
        status: ArticleStatus::UnderReview,
        author: author.user.clone(),
        editor: Some(editor.user.clone()),
        version: 3,
        created_at: now,
        updated_at: now,
    }
}

/// An impersonation of `subject` by `actor`, with every bound and a policy that says something of everything.
fn session(actor: Principal, subject: Principal, inside: ArticleId, now: Time) -> Session {
    let mut articles: Vec<ArticleId> = (1..Bounds::MAX_RESOURCES).map(|_| ArticleId::new(now)).collect();
    articles.push(inside);
    let bounds = Bounds {
        permissions: Some([Permission::ArticlesCreate, Permission::ArticlesEditAssigned].into_iter().collect()),
        articles: Some(articles),
    };
    Session {
        id: SessionId::new(now),
        subject,
        kind: Kind::Impersonation(Box::new(ActingAs {
            actor,
            original_session: SessionId::new(now),
            original_ended_at: None,
            original_expires_at: now + Duration::hours(1),
            grant: Grant { reason: None, ticket: None, mode: Mode::Full, bounds },
        })),
        started_at: now,
        expires_at: now + Duration::minutes(30),
        last_used_at: now,
        ended: None,
        terms: None,
    }
}

fn policy(now: Time) -> Policy {
    let mut policy = Policy::initial(now);
    policy.terms.read_only_roles = vec![Role::Support];
    policy.terms.protected_roles = vec![Role::Author];
    policy.terms.refused_operations = RefusedOperation::all().filter(|operation| operation.to_string() == "article.publish").collect();
    policy
}

fn decisions(c: &mut Criterion) {
    let now = Time::UNIX_EPOCH + Duration::days(20_000);
    let (actor, editor, author) = (
        principal(Role::Administrator, "Ada Admin", now),
        principal(Role::Editor, "Ed Editor", now),
        principal(Role::Author, "Ann Author", now),
    );
    let article = article(&author, &editor, now);
    let policy = Arc::new(policy(now));
    let session = session(actor.clone(), editor.clone(), article.id, now);
    let identity = Identity::of_live(session.clone(), Arc::clone(&policy));

    c.bench_function("at every request: the session's standing", |b| {
        b.iter(|| black_box(&session).standing(black_box(now), black_box(&policy)))
    });
    for (name, requirements) in
        [("get_me", GetMe::REQUIREMENTS), ("create_article", CreateArticle::REQUIREMENTS), ("act_on_article", ActOnArticle::REQUIREMENTS)]
    {
        c.bench_function(&format!("at every request: permit {name}"), |b| {
            b.iter(|| permit(black_box(&identity), black_box(&requirements)).is_ok());
        });
    }
    let ask = |action: ArticleAction| Question::of_user(identity.subject(), action, Some(&article)).under(identity.hold());
    c.bench_function("an action that is allowed", |b| b.iter(|| decide(black_box(ask(ArticleAction::Accept))).require().is_ok()));
    c.bench_function("an action that is refused, with its sentences", |b| {
        b.iter(|| decide(black_box(ask(ArticleAction::Publish))).require().is_err());
    });
    c.bench_function("the actions of an article", |b| {
        let reasons = |action: &ArticleAction| decide(Question::of_user(identity.subject(), *action, Some(&article))).reasons_of_user();
        b.iter(|| ArticleAction::ALL.iter().map(reasons).map(|reasons| reasons.len()).sum::<usize>());
    });
    c.bench_function("the whole chain of one action", |b| {
        let asked = Question::of_user(identity.subject(), Action::Accept, Some(&article)).under(identity.hold());
        b.iter(|| decide(black_box(asked)).rules().len());
    });
    c.bench_function("a start", |b| {
        b.iter(|| {
            let mut reasons = refusals(black_box(&actor), black_box(&editor), Posture::PLAIN, &policy);
            reasons.extend(start_refusals(&actor, Some(Mode::Full), Usage::default(), &policy));
            reasons.is_empty()
        });
    });
}

criterion_group!(benches, decisions);
criterion_main!(benches);
