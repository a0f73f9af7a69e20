//! What it costs to check a token: one that was never seen, and one that is remembered. `cargo bench --bench tokens`.
#![allow(clippy::unwrap_used, clippy::missing_docs_in_private_items, reason = "a benchmark that can't begin says so by panicking")]

use std::hint::black_box;

use actas::auth::keys::{Algorithm, OpenedKey, SigningKey, StoredKey};
use actas::auth::tokens::{AccessClaims, Actor, Subject, Tokens};
use actas::domain::Time;
use actas::domain::client::{Audience, ClientId};
use actas::domain::ids::{SessionId, UserId};
use chrono::Duration;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const ISSUER: &str = "https://actas.example.org";
const AUDIENCE: &str = "actas";

fn signing_key(algorithm: Algorithm, now: Time) -> SigningKey {
    match StoredKey::generate_signing(algorithm, now, None).unwrap().open(None).unwrap() {
        OpenedKey::Sign(key) => key,
        OpenedKey::Refresh(_) => unreachable!("a signing key was made"),
    }
}

/// An impersonation's, which says the most of those that people have.
fn claims(now: Time) -> AccessClaims {
    AccessClaims {
        iss: ISSUER.to_owned(),
        sub: Subject::User(UserId::new(now)),
        aud: vec![Audience::from_stored(AUDIENCE)],
        client_id: ClientId::FirstParty,
        exp: (now + Duration::minutes(30)).timestamp(),
        iat: now.timestamp(),
        nbf: now.timestamp(),
        jti: SessionId::new(now).to_string(),
        sid: SessionId::new(now),
        scope: None,
        authorization_details: None,
        root_sid: None,
        act: Some(Actor { sub: UserId::new(now) }),
    }
}

fn tokens(c: &mut Criterion) {
    let now = Time::UNIX_EPOCH + Duration::days(20_000);
    for algorithm in [Algorithm::EdDsa, Algorithm::Rs256] {
        let key = signing_key(algorithm, now);
        // A ring of its own for every check, so that nothing is remembered.
        let fresh = || Tokens::new(vec![key.clone()], ISSUER, AUDIENCE);
        let used = fresh();
        let claims = claims(now);
        let token = used.sign(key.kid(), &claims).unwrap();
        c.bench_function(&format!("{algorithm}: a token is signed"), |b| b.iter(|| used.sign(key.kid(), black_box(&claims)).unwrap()));
        c.bench_function(&format!("{algorithm}: a token that was never seen is checked"), |b| {
            b.iter_batched_ref(fresh, |fresh| fresh.verify(black_box(&token), now).unwrap(), BatchSize::LargeInput);
        });
        used.verify(&token, now).unwrap();
        c.bench_function(&format!("{algorithm}: a token that is remembered is checked"), |b| {
            b.iter(|| used.verify(black_box(&token), now).unwrap());
        });
    }
}

criterion_group!(benches, tokens);
criterion_main!(benches);
