//! What SQLite alone does with a mutation: its entry and its row, in a transaction that is flushed, one after the other.

use std::time::Instant;

use actas::domain::Time;
use actas::domain::ids::EntryId;
use chrono::Utc;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;

use crate::office::{PEOPLE, migrate};
use crate::postgres::{Database, Place};
use crate::seed;

diesel::table! {
    entries (seq) {
        seq -> BigInt,
        id -> Text,
        occurred_at -> Timestamp,
        origin -> Text,
        action -> Text,
        resource_type -> Text,
        resource_id -> Text,
        resource_version -> BigInt,
        subject_id -> Text,
        subject_email -> Text,
        subject_name -> Text,
        actor_id -> Text,
        actor_email -> Text,
        actor_name -> Text,
        impersonation_id -> Text,
        note -> Text,
        changes -> Text,
        request_id -> Text,
    }
}

diesel::table! {
    articles (id) {
        id -> Text,
        title -> Text,
        search -> Text,
        version -> BigInt,
        updated_at -> Timestamp,
    }
}

/// A database with Actas's tables, and as many articles in it as clients change at most: each as somebody else, under another impersonation.
pub struct Commits {
    conn: SqliteConnection,
    _database: Database,
    versions: [i64; PEOPLE],
}

impl Commits {
    pub fn prepare() -> Self {
        let database = Place::Sqlite.new_database();
        migrate(&database);
        let mut conn = SqliteConnection::establish(database.url.strip_prefix("sqlite://").unwrap()).unwrap();
        conn.batch_execute(
            "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA recursive_triggers = ON; PRAGMA trusted_schema = OFF",
        )
        .unwrap();
        conn.batch_execute(&seed::people(&seed::Dialect::Sqlite, Utc::now())).unwrap();
        for number in 0..PEOPLE {
            conn.batch_execute(&seed::article(&seed::Dialect::Sqlite, &id(ARTICLE, number), Utc::now())).unwrap();
        }
        Self { conn, _database: database, versions: [1; PEOPLE] }
    }

    /// How many durable mutations a second there are, of as many articles as there are clients: in turns, as the server changes them.
    pub fn rate(&mut self, clients: usize, seconds: u64) -> f64 {
        let (began, mut done) = (Instant::now(), 0);
        for number in (0..clients).cycle() {
            if began.elapsed().as_secs() >= seconds {
                break;
            }
            self.change(number);
            done += 1;
        }
        f64::from(done) / began.elapsed().as_secs_f64()
    }

    fn change(&mut self, number: usize) {
        let now: Time = Utc::now();
        let (before, after) = (self.versions[number], self.versions[number] + 1);
        let (article, subject, actor) = (id(ARTICLE, number), id(SUBJECT, number), seed::actor());
        let changes = format!(r#"{{"title":{{"from":"On tides {before}","to":"On tides {after}"}}}}"#);
        self.conn
            .immediate_transaction(|conn| {
                diesel::insert_into(entries::table)
                    .values((
                        entries::id.eq(EntryId::new(now).to_string()),
                        entries::occurred_at.eq(now.naive_utc()),
                        entries::origin.eq("api"),
                        entries::action.eq("article.updated"),
                        entries::resource_type.eq("article"),
                        entries::resource_id.eq(&article),
                        entries::resource_version.eq(after),
                        entries::subject_id.eq(subject),
                        entries::subject_email.eq("author.0@example.org"),
                        entries::subject_name.eq("Somebody"),
                        entries::actor_id.eq(actor),
                        entries::actor_email.eq("ada@example.org"),
                        entries::actor_name.eq("Somebody"),
                        entries::impersonation_id.eq(id(IMPERSONATION, number)),
                        entries::note.eq("Somebody acting as Somebody"),
                        entries::changes.eq(changes),
                        entries::request_id.eq(seed::ARTICLE),
                    ))
                    .execute(conn)?;
                diesel::update(articles::table.find(&article).filter(articles::version.eq(before)))
                    .set((
                        articles::title.eq(format!("On tides {after}")),
                        articles::search.eq(format!("on tides {after}")),
                        articles::version.eq(after),
                        articles::updated_at.eq(now.naive_utc()),
                    ))
                    .execute(conn)
            })
            .unwrap();
        self.versions[number] = after;
    }
}

const ARTICLE: char = 'a';
const SUBJECT: char = 'b';
const IMPERSONATION: char = 'c';

/// The id of the thing of this kind that has this number.
fn id(kind: char, number: usize) -> String {
    format!("00000000-0000-7000-{kind}000-{number:012x}")
}
