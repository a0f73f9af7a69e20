//! What a page's cursor costs, there and back. `cargo bench --bench cursors`.
#![allow(clippy::unwrap_used, clippy::missing_docs_in_private_items, reason = "a benchmark that can't begin says so by panicking")]

use std::hint::black_box;

use actas::domain::Time;
use actas::domain::ids::ArticleId;
use actas::domain::page::{Key, Seq, decode_cursor, encode_cursor};
use chrono::Duration;
use criterion::{Criterion, criterion_group, criterion_main};

fn there_and_back<K: Key>(c: &mut Criterion, listing: &str, key: &K) {
    let cursor = encode_cursor(key);
    c.bench_function(&format!("{listing}: a cursor is written"), |b| b.iter(|| encode_cursor(black_box(key))));
    c.bench_function(&format!("{listing}: a cursor is read"), |b| b.iter(|| decode_cursor::<K>(black_box(&cursor)).is_some()));
    let other = cursor.replace(|first: char| first == cursor.chars().next().unwrap(), "A");
    assert!(decode_cursor::<K>(&other).is_none());
    c.bench_function(&format!("{listing}: what is no cursor of it is refused"), |b| {
        b.iter(|| decode_cursor::<K>(black_box(&other)).is_none());
    });
}

fn cursors(c: &mut Criterion) {
    let now = Time::UNIX_EPOCH + Duration::days(20_000);
    there_and_back(c, "the history", &Seq(10_000_000));
    there_and_back(c, "articles", &ArticleId::new(now));
}

criterion_group!(benches, cursors);
criterion_main!(benches);
