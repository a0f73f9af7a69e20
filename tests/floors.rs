//! Keeps the edges between the floors pointing downwards, and each dependency where it belongs.
//!
//! It reads the sources as text without comments and literals. That can be fooled on purpose and not by accident, which is
//! what it is for.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// What each module of the crate may import of the others. A new module needs a line here, and so a thought.
const FLOORS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &["domain"]),
    ("config", &["domain"]),
    ("logging", &["config"]),
    ("auth", &["domain"]),
    ("store", &["domain"]),
    ("service", &["auth", "store", "domain"]),
    ("http", &["service", "domain", "config", "clock"]),
    ("cli", &["http", "service", "store", "auth", "domain", "config", "logging", "clock"]),
    ("lib", &["cli", "http", "service", "store", "auth", "domain", "config", "logging", "clock"]),
    ("main", &["cli"]),
];

/// Who may name what does not belong to us.
const KEPT: &[(&str, &[&str], &str)] = &[
    ("diesel", &["store"], "another database, or another way to it, must change the store alone"),
    ("diesel_migrations", &["store"], "as diesel"),
    ("libsqlite3_sys", &["store"], "as diesel"),
    ("actix_web", &["http", "cli"], "the rules must run without HTTP"),
    ("actix_cors", &["http"], "as actix_web"),
    ("jsonwebtoken", &["auth"], "how a token is made and checked is decided once"),
    ("bcrypt::", &["auth"], "how a password is hashed is decided once"),
    ("clap", &["cli", "config"], "nothing else knows of a command line"),
    ("std::env", &["config"], "a setting that is read elsewhere is neither checked nor named"),
    ("env::var", &["config"], "as std::env"),
    ("Utc::now", &["clock"], "tests move the clock, and one use case has one instant"),
    ("SystemTime::now", &["clock"], "as Utc::now"),
];

#[test]
fn edges_point_downwards_only() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = FLOORS.iter().find(|(floor, _)| *floor == source.floor) else {
            wrong.push(format!("{}: `{}` is no floor yet; give it a line in FLOORS", source.path.display(), source.floor));
            continue;
        };
        for import in imports(&source.code, source.depth) {
            if import != source.floor && !allowed.contains(&import.as_str()) && FLOORS.iter().any(|(floor, _)| *floor == import) {
                wrong.push(format!("{}: `{}` may not import `{import}`", source.path.display(), source.floor));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn each_dependency_stays_where_it_belongs() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, floors, why) in KEPT {
            if !floors.contains(&source.floor.as_str()) && names(&source.code, name) {
                wrong.push(format!("{}: `{name}` belongs to {floors:?}: {why}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_sees_code_and_nothing_else() {
    let code =
        code_of("use a; // diesel\n/* diesel /* diesel */ */ \"diesel \\\" diesel\" r#\"diesel \" \"# 'd' '\\'' &'diesel_a () b\"diesel\"");
    assert!(!names(&code, "diesel"), "{code}");
    assert!(names(&code_of("x(\"\"); diesel::sql_query"), "diesel"));
    assert!(!names("diesel_migrations::x", "diesel") && !names("my_diesel", "diesel"));
}

#[test]
fn the_reader_finds_every_way_to_import() {
    let found = |code: &str, depth| imports(code, depth);
    assert_eq!(found("use crate::store::Db; crate::auth::sign()", 1), ["store", "auth"]);
    assert_eq!(found("use crate::{store::{Db, x}, http, auth as a};", 1), ["store", "http", "auth"]);
    assert_eq!(found("use super::store::Db;", 1), ["store"]);
    assert_eq!(found("use super::super::{store, http::x};", 2), ["store", "http"]);
    assert!(found("use super::store::Db;", 2).is_empty(), "a module of one's own floor");
}

struct Source {
    path: PathBuf,
    floor: String,
    /// How many `super` lead to the crate's root.
    depth: usize,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = code_of(&fs::read_to_string(&path).unwrap());
                let parts: Vec<_> = path.strip_prefix(&root).unwrap().iter().map(|part| part.to_string_lossy().into_owned()).collect();
                let floor = parts[0].trim_end_matches(".rs").to_owned();
                let is_root_of_its_directory = parts.last().is_some_and(|name| name == "mod.rs");
                sources.push(Source { path, floor, depth: parts.len() - usize::from(is_root_of_its_directory), code });
            }
        }
    }
    assert!(sources.len() > 10, "the sources were not found");
    sources
}

/// The modules of the crate's root that `code` names, through `crate::` or through enough `super::`.
fn imports(code: &str, depth: usize) -> Vec<String> {
    let root_by_super = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", root_by_super.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            let before = &code[..at];
            // A longer chain of `super` is the match before this one; `$crate` is as good as `crate`.
            if !before.ends_with("super::") && !before.ends_with(is_word) {
                found.extend(first_names(&code[at + prefix.len()..]));
            }
        }
    }
    found
}

/// The first name of a path, or of every path in braces.
fn first_names(path: &str) -> Vec<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    let Some(group) = path.trim_start().strip_prefix('{') else { return vec![word(path)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(word(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Whether `code` has `name` as whole words.
fn names(code: &str, name: &str) -> bool {
    let ends_in_word = name.ends_with(is_word);
    let is_part = |at: usize| code[..at].ends_with(is_word) || (ends_in_word && code[at + name.len()..].starts_with(is_word));
    code.match_indices(name).any(|(at, _)| !is_part(at))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The source without its comments and with empty literals.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !code.ends_with(is_word)) {
            length
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of the raw string that `text` begins with, if it does.
fn raw_string(text: &str) -> Option<usize> {
    let after_r = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after_r.len() - after_r.trim_start_matches('#').len();
    let body = after_r[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + length)
}

/// Whether the quote that `text` begins with opens a character and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}

/// The length of the literal that `text` begins with.
fn quoted(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}
