//! Settings are parsed from an injected environment: the process's own is shared by all tests.

use std::collections::BTreeSet;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser as _;

use super::*;
use crate::domain::Time;
use crate::domain::policy::{Policy, PolicySetting, PolicyTerms, StoredPolicy};

#[derive(clap::Parser)]
struct Serve {
    #[command(flatten)]
    settings: Settings,
}

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().copied().collect()
}

fn check(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Settings::default().check(&environment(pairs))
}

/// The mistakes in `pairs`, of which there must be some.
fn mistakes(pairs: &[(&str, &str)]) -> Vec<String> {
    check(pairs).unwrap_err().mistakes().to_vec()
}

fn with_flags(flags: &[&str], pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let serve = Serve::try_parse_from([&["actas"], flags].concat()).unwrap();
    serve.settings.check(&environment(pairs))
}

#[test]
fn without_any_setting_the_defaults_of_the_contract_hold() {
    let config = check(&[]).unwrap();
    assert_eq!(config.database.url, DatabaseUrl::Sqlite("actas.db".into()));
    assert_eq!(config.listen.bind.as_str(), "127.0.0.1:8080");
    assert_eq!(config.tokens.issuer, "http://localhost:8080");
    assert_eq!(config.tokens.audience, "actas");
    assert_eq!((config.tokens.access_ttl, config.tokens.refresh_ttl, config.tokens.refresh_grace), (3600, 14 * 86_400, 10));
    assert!(config.impersonation.pins.change.settings().is_empty() && config.impersonation.pins.freeze.is_none());
    let policy = Policy::initial(Time::UNIX_EPOCH).terms;
    assert_eq!((policy.usual_duration(), policy.max_duration_seconds, policy.idle_seconds), (1800, 3600, 900));
    assert!(policy.reason_required && !policy.restore_proof_required && !policy.ticket_required);
    assert_eq!(config.signing_algorithm, SigningAlgorithm::EdDsa);
    assert_eq!(config.login.bcrypt_cost, 12);
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(config.http.trusted_proxies.is_empty() && config.http.cors.exact.is_empty());
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn every_setting_has_a_flag_of_its_name_and_says_so_in_the_help() {
    let help = <Serve as clap::CommandFactory>::command().render_long_help().to_string();
    for setting in reference() {
        assert!(help.contains(&format!("{} ", setting.flag())) || help.contains(&format!("{}[", setting.flag())), "{}", setting.flag());
        assert!(help.contains(&setting.variable()), "{}", setting.variable());
    }
}

#[test]
fn tokens_are_signed_with_one_of_two_algorithms() {
    let chosen = |text| check(&[("ACTAS_SIGNING_ALGORITHM", text)]).map(|config| config.signing_algorithm);
    assert_eq!(chosen("EdDSA"), Ok(SigningAlgorithm::EdDsa));
    assert_eq!(chosen("RS256"), Ok(SigningAlgorithm::Rs256));
    for text in ["HS256", "eddsa", "none", "PS256", "RS256 "] {
        let found = mistakes(&[("ACTAS_SIGNING_ALGORITHM", text)]);
        assert_eq!(found, [format!("ACTAS_SIGNING_ALGORITHM must be `EdDSA` or `RS256`; it is {text:?}")]);
    }
    let command = |pairs: &[(&str, &str)]| SigningSettings::default().check(&environment(pairs)).unwrap();
    assert_eq!(command(&[]), (SigningAlgorithm::EdDsa, false));
    assert_eq!(command(&[("ACTAS_SIGNING_ALGORITHM", "EdDSA")]), (SigningAlgorithm::EdDsa, true));
}

#[test]
fn a_flag_wins_over_the_variable() {
    let config = with_flags(&["--bind", "127.0.0.1:1", "--require-restore-proof"], &[("ACTAS_BIND", "127.0.0.1:2")]).unwrap();
    assert_eq!(config.listen.bind.as_str(), "127.0.0.1:1");
    assert_eq!(config.impersonation.pins.change.restore_proof_required, Some(true));
    let config = with_flags(&["--require-restore-proof=false"], &[]).unwrap();
    assert_eq!(config.impersonation.pins.change.restore_proof_required, Some(false));
}

#[test]
fn a_file_gives_a_setting_without_its_one_trailing_line_break() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"postgres://actas:secret \n@db/actas\r\n").unwrap();
    let config = check(&[("ACTAS_DATABASE_URL_FILE", file.path().to_str().unwrap())]).unwrap();
    assert_eq!(config.database.url, DatabaseUrl::Postgres(Secret::new("postgres://actas:secret \n@db/actas".to_owned())));
}

#[test]
fn a_file_and_a_variable_for_one_setting_are_refused_by_both_names() {
    let found = mistakes(&[("ACTAS_ISSUER", "a"), ("ACTAS_ISSUER_FILE", "/nowhere")]);
    assert_eq!(found, ["ACTAS_ISSUER and ACTAS_ISSUER_FILE are both set; keep one of them"]);
    let found = mistakes(&[("ACTAS_ISSUER_FILE", "/nowhere/at/all")]);
    assert!(found[0].starts_with("ACTAS_ISSUER_FILE names a file that can't be read: /nowhere/at/all"), "{found:?}");
}

#[test]
fn all_mistakes_are_reported_each_by_its_name() {
    let found = mistakes(&[("ACTAS_BIND", "8080"), ("ACTAS_BCRYPT_COST", "3"), ("ACTAS_LOG_FORMAT", "xml"), ("ACTAS_AUDIENCE", "")]);
    let names: Vec<_> = found.iter().map(|mistake| mistake.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["ACTAS_BIND", "ACTAS_AUDIENCE", "ACTAS_BCRYPT_COST", "ACTAS_LOG_FORMAT"]);
    assert_eq!(found[3], "ACTAS_LOG_FORMAT must be `json` or `human`; it is \"xml\"");
}

#[test]
fn a_ttl_accepts_a_second_and_refuses_none() {
    for name in ["ACCESS_TOKEN_TTL_SECONDS", "REFRESH_TOKEN_TTL_SECONDS", "IMPERSONATION_TTL_SECONDS", "IMPERSONATION_MAX_SECONDS"] {
        let variable = format!("ACTAS_{name}");
        assert!(check(&[(&variable, "1")]).is_ok(), "{name}");
        for wrong in ["0", "-1", "+1", " 1", "1s", "1.5", "99999999999999999999", "4294967295"] {
            let found = mistakes(&[(&variable, wrong)]);
            assert!(found[0].starts_with(&format!("{variable} must be a whole number from 1 to ")), "{found:?}");
        }
    }
    for name in ["REFRESH_GRACE_SECONDS", "IMPERSONATION_IDLE_SECONDS", "LOGIN_FAILURES_PER_MINUTE"] {
        assert!(check(&[(&format!("ACTAS_{name}"), "0")]).is_ok(), "{name}: 0 is off");
    }
}

#[test]
fn a_shorter_maximum_shortens_the_usual_impersonation_but_not_a_chosen_one() {
    let pins = check(&[("ACTAS_IMPERSONATION_MAX_SECONDS", "60")]).unwrap().impersonation.pins;
    assert_eq!(PolicyTerms::default().changed(&pins.change).usual_duration(), 60);
    let found = mistakes(&[("ACTAS_IMPERSONATION_MAX_SECONDS", "60"), ("ACTAS_IMPERSONATION_TTL_SECONDS", "61")]);
    assert_eq!(found, ["ACTAS_IMPERSONATION_TTL_SECONDS must not be longer than ACTAS_IMPERSONATION_MAX_SECONDS, which is 60; it is 61"]);
}

#[test]
fn every_setting_of_the_policy_can_be_pinned_and_what_can_t_be_names_its_setting() {
    let chosen = [
        ("IMPERSONATION_TTL_SECONDS", "60", "0"),
        ("IMPERSONATION_MAX_SECONDS", "600", "86401"),
        ("IMPERSONATION_IDLE_SECONDS", "30", "-1"),
        ("IMPERSONATION_REASON", "optional", "maybe"),
        ("IMPERSONATION_REASON_MIN_LENGTH", "10", "0"),
        ("IMPERSONATION_TICKET", "required", "yes"),
        ("IMPERSONATION_TICKET_PATTERN", "HELP-[0-9]+", "("),
        ("REQUIRE_RESTORE_PROOF", "true", "1"),
        ("IMPERSONATION_MODE", "read_only", "readonly"),
        ("IMPERSONATION_READ_ONLY_ROLES", "support, administrator", "boss"),
        ("IMPERSONATION_PROTECTED_ROLES", "author", "author,,editor"),
        ("IMPERSONATION_MAX_LIVE", "3", "10001"),
        ("IMPERSONATION_STARTS_PER_HOUR", "20", "x"),
        ("IMPERSONATION_REFUSED_OPERATIONS", "create_article,article.accept", "log_out"),
        ("IMPERSONATION_FREEZE", "an incident", "a\u{7}b"),
    ];
    let variables: Vec<(String, &str)> = chosen.iter().map(|(name, good, _)| (format!("ACTAS_{name}"), *good)).collect();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let pins = check(&variables).unwrap().impersonation.pins;
    let stored = StoredPolicy { terms: PolicyTerms::default(), freeze: None, version: 1, updated_at: Time::UNIX_EPOCH };
    let policy = Policy::of(stored, &pins);
    assert_eq!(policy.pinned.iter().copied().collect::<BTreeSet<_>>(), PolicySetting::ALL.iter().copied().collect());
    for (name, _, bad) in chosen {
        let found = mistakes(&[(&format!("ACTAS_{name}"), bad)]);
        assert!(found.len() == 1 && found[0].starts_with(&format!("ACTAS_{name} ")), "{found:?}");
    }
}

#[test]
fn only_known_databases_are_accepted_and_a_password_is_never_repeated() {
    for url in [
        "postgress://u:hunter2@h/d",
        "mysql://u:hunter2@h/d",
        "sqlite:hunter2",
        "hunter2",
        "postgres://",
        "sqlite://",
        "sqlite://:memory:",
        "sqlite://a?mode=ro",
    ] {
        let found = mistakes(&[("ACTAS_DATABASE_URL", url)]);
        assert!(found[0].starts_with("ACTAS_DATABASE_URL must "), "{found:?}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
    assert_eq!(DatabaseUrl::parse("sqlite:///var/lib/actas.db"), Ok(DatabaseUrl::Sqlite("/var/lib/actas.db".into())));
}

#[test]
fn a_pooler_stands_in_front_of_postgres_alone() {
    let postgres = ("ACTAS_DATABASE_URL", "postgres://h/d");
    assert!(!check(&[postgres]).unwrap().database.is_pooled);
    assert!(check(&[postgres, ("ACTAS_DATABASE_POOLER", "transaction")]).unwrap().database.is_pooled);
    assert_eq!(mistakes(&[("ACTAS_DATABASE_POOLER", "transaction")]), ["ACTAS_DATABASE_POOLER must be `none` with SQLite"]);
    let found = mistakes(&[postgres, ("ACTAS_DATABASE_POOLER", "session")]);
    assert!(found.len() == 1 && found[0].starts_with("ACTAS_DATABASE_POOLER must "), "{found:?}");
}

#[test]
fn a_database_url_shows_its_place_but_no_secret() {
    for (url, shown) in [
        ("postgres://u:hunter2@db.example.org:5432/actas?sslmode=require", "postgres://db.example.org:5432/actas"),
        ("postgresql:///actas?host=/run/postgresql&password=hunter2", "postgres:///actas"),
        ("postgres://u:p@hunter2@h/actas", "postgres://…"),
        ("postgres://u:p?hunter2@h/actas", "postgres://…"),
        ("postgres://h/actas?password=p@hunter2", "postgres://…"),
    ] {
        let parsed = DatabaseUrl::parse(url).unwrap();
        assert!(!format!("{parsed} {parsed:?}").contains("hunter2"), "{parsed}");
        assert_eq!(parsed.to_string(), shown);
    }
}

#[test]
fn no_secret_is_printed() {
    let key = STANDARD.encode([7; 32]);
    let settings =
        Serve::try_parse_from(["actas", "--key-encryption-key", &key, "--database-url", "postgres://u:hunter2@h/d"]).unwrap().settings;
    let config = settings.check(&Environment::default()).unwrap();
    assert_eq!(config.database.key_encryption_key.as_ref().unwrap().reveal(), &[7; 32]);
    let printed = format!("{settings:?} {config:?}");
    assert!(!printed.contains("hunter2") && !printed.contains(&key) && !printed.contains("7, 7"), "{printed}");
    for wrong in ["hunter2", &STANDARD.encode([7; 31]), &"0".repeat(64)] {
        let found = mistakes(&[("ACTAS_KEY_ENCRYPTION_KEY", wrong)]);
        assert!(found[0].starts_with("ACTAS_KEY_ENCRYPTION_KEY must ") && !found[0].contains(wrong), "{found:?}");
    }
}

#[test]
fn where_to_listen_is_a_host_and_a_port() {
    for fine in ["127.0.0.1:0", "[::]:8080", "localhost:8080", "0.0.0.0:65535", "my-host.internal:80"] {
        assert!(HostPort::parse(fine).is_ok(), "{fine}");
    }
    for wrong in ["8080", ":8080", "127.0.0.1", "127.0.0.1:65536", "300.0.0.1:80", "::1:80", "http://localhost:80", "a b:80", "host:"] {
        assert!(HostPort::parse(wrong).is_err(), "{wrong}");
    }
    assert!(HostPort::parse("127.0.0.1:0").unwrap().is_loopback());
    assert!(!HostPort::parse("0.0.0.0:0").unwrap().is_loopback());
    let found = mistakes(&[("ACTAS_OPS_BIND", "127.0.0.1:8080")]);
    assert_eq!(found, ["ACTAS_OPS_BIND must differ from ACTAS_BIND"]);
}

#[test]
fn an_origin_is_written_as_browsers_write_it() {
    let fine = "https://desk.example.org, http://localhost:5173,http://[::1]:3000,http://127.0.0.1";
    assert_eq!(check(&[("ACTAS_CORS_ORIGINS", fine)]).unwrap().http.cors.exact.len(), 4);
    for wrong in [
        "*",
        "null",
        "https://*.example.org",
        "https://example.org/",
        "https://example.org/path",
        "https://Example.org",
        "https://example.org:443",
        "http://example.org:80",
        "example.org",
        "https://",
        "https://a@b",
        "https://a,,https://b",
        "https://a:0",
        "https://a:080",
    ] {
        let found = mistakes(&[("ACTAS_CORS_ORIGINS", wrong)]);
        assert!(found[0].starts_with("ACTAS_CORS_ORIGINS must be origins"), "{wrong}");
    }
}

#[test]
fn the_demo_allows_every_origin_on_this_machine_and_no_other() {
    let cors = CorsOrigins { exact: Vec::new(), any_localhost: true };
    for fine in ["http://localhost", "http://localhost:5173", "https://127.0.0.1:1", "http://[::1]:3000"] {
        assert!(cors.allows(fine), "{fine}");
    }
    for wrong in
        ["http://localhost.example.org", "http://localhost:1.example.org", "null", "http://localhost:", "ftp://localhost", "http://x"]
    {
        assert!(!cors.allows(wrong), "{wrong}");
    }
}

#[test]
fn trusted_proxies_are_addresses_and_networks() {
    let config = check(&[("ACTAS_TRUSTED_PROXIES", "10.1.2.3/8, ::1,192.168.1.1")]).unwrap();
    let shown: Vec<_> = config.http.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.0/8", "::1/128", "192.168.1.1/32"]);
    assert!(mistakes(&[("ACTAS_TRUSTED_PROXIES", "10.0.0.0/33")])[0].starts_with("ACTAS_TRUSTED_PROXIES must be addresses"));
}

#[test]
fn the_public_url_loses_its_trailing_slash_and_is_the_issuer() {
    let config = check(&[("ACTAS_PUBLIC_URL", "https://example.org/actas/")]).unwrap();
    assert_eq!(
        (config.tokens.public_url.as_str(), config.tokens.issuer.as_str()),
        ("https://example.org/actas", "https://example.org/actas")
    );
    for wrong in
        ["example.org", "https://u:p@example.org", "https://example.org?x", "https://", "ftp://example.org", "https://example.org/#a"]
    {
        assert!(mistakes(&[("ACTAS_PUBLIC_URL", wrong)])[0].starts_with("ACTAS_PUBLIC_URL must be a URL"), "{wrong}");
    }
}

#[test]
fn what_is_unwise_or_misspelt_is_a_warning() {
    let config =
        check(&[("ACTAS_BCRYPT_COST", "4"), ("ACTAS_BCRYPT_COTS", "12"), ("ACTAS_TEST_POSTGRES_URL", "x"), ("BIND", "x")]).unwrap();
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings[0].starts_with("ACTAS_BCRYPT_COST is 4: "), "{:?}", config.warnings);
    assert_eq!(config.warnings[1], "ACTAS_BCRYPT_COTS is no setting of Actas and has no effect");
}

#[test]
fn other_defaults_hold_only_where_nothing_is_chosen() {
    let defaults = [("BIND", "127.0.0.1:0"), ("LOGIN_FAILURES_PER_MINUTE", "0")];
    let config = Settings::default().check_with(&environment(&[("ACTAS_BIND", "127.0.0.1:9")]), &defaults).unwrap();
    assert_eq!((config.listen.bind.as_str(), config.login.failures_per_minute), ("127.0.0.1:9", 0));
}

/// The rows of a Markdown table under `## Settings`: the names in its first column, and the defaults in its second.
fn rows_of_readme() -> Vec<(String, String)> {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("\n## Settings\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cell = |cell: Option<&str>| cell.unwrap().trim().trim_matches('`').to_owned();
    rows.map(|row| row.split('|').skip(1)).map(|mut cells| (cell(cells.next()), cell(cells.next()))).collect()
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
    let expected: Vec<_> = reference()
        .map(|setting| {
            let (DefaultValue::Value(default) | DefaultValue::Described(default)) = setting.default;
            (setting.variable(), default.to_owned())
        })
        .collect();
    assert_eq!(rows_of_readme(), expected);
}
