//! Long histories: entries of the kinds that years of use leave, written in bulk through the real schema, its triggers and foreign keys. Of one article and of
//! one actor there are pages to measure, spread over all of the history however long it is:
//!
//! - an article that lives, with 500 changes;
//! - an actor under whom one in fifty entries was made.
//!
//! All other articles had fifty entries each and are gone, twenty at a time.

use std::time::Instant;

use actas::domain::Time;
use chrono::Utc;
use diesel::connection::SimpleConnection;
use diesel::{Connection as _, PgConnection, SqliteConnection};

/// The article whose history is measured.
pub const ARTICLE: &str = "00000000-0000-7000-8000-00000000000a";

/// How many entries it has, beside that of its creation.
const CHANGES: u64 = 500;

/// Whose articles they are, and who acts as them. The first of the actors is the one whose history is measured.
pub const SUBJECTS: u64 = 20;
const ACTORS: u64 = 10;

/// The entries of every other article, and how many articles are in use at a time.
const EACH: u64 = 50;
const AT_A_TIME: u64 = 20;

/// How many entries one statement writes.
const CHUNK: u64 = 50_000;

/// The id of a subject, and after the last of them of an actor.
pub fn person(number: u64) -> String {
    format!("00000000-0000-7000-9000-{number:012x}")
}

/// The id of the actor whose history is measured.
pub fn actor() -> String {
    person(SUBJECTS)
}

/// How the two databases write the same.
#[derive(Clone, Copy)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Twelve hexadecimal digits.
    fn hex(self, number: &str) -> String {
        match self {
            Self::Sqlite => format!("printf('%012x', {number})"),
            Self::Postgres => format!("lpad(to_hex(({number})::bigint), 12, '0')"),
        }
    }

    /// An instant, from seconds since 1970.
    fn time(self, seconds: &str) -> String {
        match self {
            Self::Sqlite => format!("strftime('%Y-%m-%d %H:%M:%S', {seconds}, 'unixepoch')"),
            Self::Postgres => format!("(to_timestamp({seconds}) AT TIME ZONE 'UTC')"),
        }
    }

    /// A UUIDv7 of these seconds.
    fn uuid(self, seconds: &str, kind: u8, number: &str) -> String {
        let time = self.hex(&format!("({seconds}) * 1000"));
        format!("substr({time}, 1, 8) || '-' || substr({time}, 9, 4) || '-700{kind}-8000-' || {}", self.hex(number))
    }

    /// The numbers from `from` to before `to`, as `numbers(i)`.
    fn numbers(self, from: u64, to: u64) -> String {
        match self {
            Self::Sqlite => format!("numbers(i) AS (VALUES ({from}) UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < {to})"),
            Self::Postgres => format!("numbers(i) AS (SELECT generate_series({from}::bigint, {to}::bigint - 1))"),
        }
    }
}

/// The people, and the article that lives.
pub fn people(dialect: &Dialect, began: Time) -> String {
    let time = dialect.time(&began.timestamp().to_string());
    let mut statements = String::new();
    for number in 0..SUBJECTS + ACTORS {
        let (id, email) = (person(number), format!("seeded.{number}@example.org"));
        let role = if number < SUBJECTS { "author" } else { "administrator" };
        statements += &first_entry(&id, "user.created", "user", &time);
        statements += &format!(
            "INSERT INTO users (id, email, email_key, display_name, search, role, status, version, created_at, updated_at)
             VALUES ('{id}', '{email}', '{email}', 'Somebody', 'somebody', '{role}', 'active', 1, {time}, {time});"
        );
    }
    statements + &article(dialect, ARTICLE, began)
}

/// An article of the first of the people.
pub fn article(dialect: &Dialect, id: &str, began: Time) -> String {
    let time = dialect.time(&began.timestamp().to_string());
    let entry = first_entry(id, "article.created", "article", &time);
    format!(
        "{entry}
         INSERT INTO articles (id, title, abstract, body, search, status, author_id, version, created_at, updated_at)
         VALUES ('{id}', 'On tides', 'Why the sea moves.', 'It just does.', 'on tides', 'draft', '{}', 1, {time}, {time});",
        person(0)
    )
}

fn first_entry(id: &str, action: &str, r#type: &str, time: &str) -> String {
    format!(
        "INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes)
         VALUES ('{id}', {time}, 'cli', '{action}', '{type}', '{id}', 1, 'a benchmark', '{{}}');"
    )
}

/// The entries with the numbers `from` to before `to`, of `all`, a second apart and the last of them now.
fn chunk(dialect: Dialect, from: u64, to: u64, all: u64, began: i64) -> String {
    let every = all / CHANGES;
    let numbers = dialect.numbers(from, to);
    let window = EACH * AT_A_TIME;
    let (at, hash) = (format!("({began} + i)"), "(i * 2654435761) % 4294967296 / 65536");
    let id = dialect.uuid(&at, 0, "i");
    let request = dialect.uuid(&at, 1, "i");
    let article = dialect.uuid(&format!("{began} + number / {AT_A_TIME} * {window}"), 2, "number");
    let impersonation = dialect.uuid(&format!("{began} + i / 1000 * 1000"), 3, "i / 1000 * 100 + actor");
    let (subject, actor) = (dialect.hex("subject"), dialect.hex(&format!("{SUBJECTS} + actor")));
    let occurred_at = dialect.time(&at);
    format!(
        r#"
WITH RECURSIVE {numbers},
-- Every so often comes the article that lives; `j` counts the others.
placed AS (
    SELECT i, i % {every} = {every} / 2 AS is_measured, (i + {every} - 1 - {every} / 2) / {every} AS measured, {hash} AS hash FROM numbers),
others AS (SELECT i, is_measured, measured, hash, i - measured AS j FROM placed),
articles_of AS (
    SELECT i, is_measured, measured, hash, j / {window} * {AT_A_TIME} + j % {AT_A_TIME} AS number, j % {window} / {AT_A_TIME} + 1 AS place FROM others),
people_of AS (
    SELECT i, is_measured, number, hash % 5 = 0 AS is_acted, hash / 5 % {ACTORS} AS actor,
        CASE WHEN is_measured THEN 0 ELSE number % {SUBJECTS} END AS subject, CASE WHEN is_measured THEN measured + 2 ELSE place END AS version
    FROM articles_of)
INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, subject_id, subject_email, subject_name,
    actor_id, actor_email, actor_name, impersonation_id, note, changes, request_id)
SELECT {id}, {occurred_at}, 'api',
    CASE WHEN version = 1 THEN 'article.created' WHEN version = {EACH} AND NOT is_measured THEN 'article.deleted' ELSE 'article.updated' END,
    'article', CASE WHEN is_measured THEN '{ARTICLE}' ELSE {article} END, version,
    '00000000-0000-7000-9000-' || {subject}, 'seeded.' || subject || '@example.org', 'Somebody',
    CASE WHEN is_acted THEN '00000000-0000-7000-9000-' || {actor} END,
    CASE WHEN is_acted THEN 'seeded.' || ({SUBJECTS} + actor) || '@example.org' END,
    CASE WHEN is_acted THEN 'Somebody' END,
    CASE WHEN is_acted THEN {impersonation} END,
    CASE WHEN is_acted THEN 'Somebody acting as Somebody' END,
    '{{"title":{{"from":"On tides ' || (version - 1) || '","to":"On tides ' || version || '"}}}}', {request}
FROM people_of;
"#
    )
}

/// The article's row, brought to the state of which its last entry tells: one version after the other, as the database insists.
fn catch_up() -> String {
    let step = |version: u64| format!("UPDATE articles SET title = 'On tides {version}', version = {version} WHERE id = '{ARTICLE}';");
    "BEGIN;".to_owned() + &(2..CHANGES + 2).map(step).collect::<String>() + "COMMIT;"
}

/// Writes `entries` entries, beside those of the people, into a database with Actas's tables that nobody uses yet.
pub fn fill(url: &str, entries: u64) {
    assert!(entries >= CHANGES * 4 && entries.is_multiple_of(CHANGES), "a history has some thousand entries, and a multiple of {CHANGES}");
    let began = Instant::now();
    match url.strip_prefix("sqlite://") {
        Some(path) => {
            let mut conn = SqliteConnection::establish(path).unwrap();
            // Only here: if the machine goes down meanwhile, nobody misses this.
            let settings =
                "PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON";
            conn.batch_execute(settings).unwrap();
            write(&mut conn, Dialect::Sqlite, entries);
            conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        }
        None => {
            let mut conn = PgConnection::establish(url).unwrap();
            conn.batch_execute("SET synchronous_commit = off; SET TIME ZONE 'UTC'").unwrap();
            write(&mut conn, Dialect::Postgres, entries);
            // As autovacuum does, sooner or later.
            conn.batch_execute("VACUUM ANALYZE").unwrap();
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("{entries} entries in {seconds:.0} s, {:.0} a second", entries as f64 / seconds);
}

fn write(conn: &mut impl SimpleConnection, dialect: Dialect, entries: u64) {
    let now = Utc::now().timestamp();
    let began = now - i64::try_from(entries).unwrap();
    let start = chrono::DateTime::from_timestamp(began, 0).unwrap();
    conn.batch_execute(&format!("BEGIN; {} COMMIT;", people(&dialect, start))).unwrap();
    let mut from = 0;
    while from < entries {
        let to = (from + CHUNK).min(entries);
        conn.batch_execute(&chunk(dialect, from, to, entries, began)).unwrap();
        from = to;
    }
    conn.batch_execute(&catch_up()).unwrap();
}
