//! What an entry of the history costs to make, before any database sees it: of a short text that changed and of a long one. `cargo bench --bench entries`.
#![allow(clippy::unwrap_used, clippy::missing_docs_in_private_items, reason = "a benchmark that can't begin says so by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use actas::domain::Time;
use actas::domain::article::{Article, ArticleAction, ArticleStatus};
use actas::domain::history::NewEntry;
use actas::domain::identity::{By, Ctx, Identity};
use actas::domain::ids::{ArticleId, SessionId, UserId};
use actas::domain::impersonation::{Bounds, Grant, Mode};
use actas::domain::policy::Policy;
use actas::domain::role::Role;
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

/// A request under impersonation, whose entries name both.
fn request(actor: Principal, subject: Principal, now: Time) -> Ctx {
    let acting = ActingAs {
        actor,
        original_session: SessionId::new(now),
        original_ended_at: None,
        original_expires_at: now + Duration::hours(1),
        grant: Grant { reason: None, ticket: None, mode: Mode::Full, bounds: Bounds::default() },
    };
    let session = Session {
        id: SessionId::new(now),
        subject,
        kind: Kind::Impersonation(Box::new(acting)),
        started_at: now,
        expires_at: now + Duration::minutes(30),
        last_used_at: now,
        ended: None,
        terms: None,
    };
    let identity = Identity::of_live(session, Arc::new(Policy::initial(now)));
    Ctx { by: By::Request(Box::new(identity)), now, request_id: Some(SessionId::new(now).to_string()) }
}

fn entries(c: &mut Criterion) {
    let now = Time::UNIX_EPOCH + Duration::days(20_000);
    let (actor, author) = (principal(Role::Administrator, "Ada Admin", now), principal(Role::Author, "Ann Author", now));
    let ctx = request(actor, author.clone(), now);
    for (name, length) in [("a short text", 20), ("100 kB of text", 100_000)] {
        let body = |letter: &str| Body::parse(&letter.repeat(length)).unwrap();
        let before = Article {
            id: ArticleId::new(now),
            title: Title::parse("On tides").unwrap(),
            r#abstract: Abstract::parse("Why the sea moves.").unwrap(),
            body: body("a"),
            status: ArticleStatus::Draft,
            author: author.user.clone(),
            editor: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let after = Article { body: body("b"), version: 2, ..before.clone() };
        let changed = || NewEntry::article_changed(&ctx, ArticleAction::Edit, black_box(&before), black_box(&after), None);
        c.bench_function(&format!("{name}: the entry of its change"), |b| b.iter(changed));
        let entry = changed();
        c.bench_function(&format!("{name}: that entry's changes as JSON"), |b| {
            b.iter(|| serde_json::to_string(black_box(&entry.changes)).unwrap());
        });
        c.bench_function(&format!("{name}: the entry of its creation"), |b| b.iter(|| NewEntry::article_created(&ctx, black_box(&after))));
    }
}

criterion_group!(benches, entries);
criterion_main!(benches);
