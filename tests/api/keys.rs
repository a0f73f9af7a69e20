//! Signing keys: which one signs, which ones count, how they come and go, and what others may know of them.

use std::fs;
use std::process::Command;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use serde_json::{Value, json};

use super::articles::draft;
use super::command_line::{Ran, run};
use crate::harness::{Acting, Answer, Backend, Caller, Office, Person, Program, Setup, actas, at_once, claims_of, header_of};

api_tests! {
    a_new_key_signs_at_once_and_older_tokens_go_on,
    [postgres] a_rotation_counts_on_every_instance_at_once,
    [postgres] instances_of_two_algorithms_work_side_by_side,
    the_original_token_comes_back_across_a_rotation,
    the_original_token_comes_back_across_a_change_of_algorithm,
    a_server_makes_a_key_of_its_algorithm_once,
    the_newest_key_signs_whatever_the_clock_said,
    a_retired_keys_tokens_are_dead_at_once,
    [postgres] a_retired_keys_tokens_are_dead_on_every_instance,
    a_narrower_token_is_signed_and_dies_as_any_other,
    retiring_a_key_ends_what_its_tokens_started,
    no_start_slips_past_a_retirement,
    the_key_that_signs_is_not_retired,
    an_unknown_key_is_told_from_one_that_signs_nothing,
    a_key_from_elsewhere_signs,
    an_rsa_key_from_elsewhere_signs,
    a_key_is_imported_once,
    [sqlite] what_is_no_such_key_is_refused_and_never_repeated,
    keys_from_the_command_line_are_sealed_as_the_others_are,
    keys_are_listed,
    the_public_keys_are_public_and_nothing_else,
    the_public_keys_may_be_kept_until_they_change,
    others_can_check_tokens_with_the_public_keys,
    a_key_is_used_with_its_own_algorithm_only,
    a_kid_names_a_key_and_nothing_else,
    a_database_of_the_first_version_keeps_its_keys,
    no_log_holds_a_key,
}

/// The program on this database.
fn on(url: &str, arguments: &[&str]) -> Command {
    let mut command = actas(arguments);
    command.env("ACTAS_DATABASE_URL", url);
    command
}

/// Runs a command on the office's database, beside its server.
fn command(office: &Office, arguments: &[&str]) -> Ran {
    run(on(&office.database_url(), arguments), b"")
}

fn kid(token: &str) -> String {
    header_of(token)["kid"].as_str().unwrap().to_owned()
}

fn rotate(office: &Office) -> String {
    command(office, &["keys", "rotate"]).expect(0).line().to_owned()
}

fn retire(office: &Office, kid: &str) -> Ran {
    command(office, &["keys", "retire", "--", kid])
}

fn access_token(answer: Answer) -> String {
    answer.expect(200).str("access_token").to_owned()
}

/// Logs out of an impersonation at this server, wherever it was started.
fn log_out_at(office: &Office, acting: &Acting) -> Answer {
    acting.at(office).post("/v1/auth/logout", json!({ "restore_verifier": acting.restore_verifier }))
}

fn article() -> Value {
    json!({ "title": "New", "abstract": "", "body": "" })
}

fn entries(admin: &Caller, kid: &str) -> Vec<Value> {
    admin.get(&format!("/v1/history?resource_type=key&resource_id={kid}")).expect(200).items().to_vec()
}

// Rotating.

fn a_new_key_signs_at_once_and_older_tokens_go_on(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let acting = office.impersonate(&admin, &author);
    let old = kid(&admin.access_token);
    assert_eq!(kid(&acting.access_token), old);

    let new = rotate(office);
    assert_ne!(new, old);
    for caller in [&*admin, &author, &acting] {
        caller.get("/v1/me").expect(200);
    }
    draft(&author);
    let again = author.log_in_again();
    assert_eq!(kid(&again.access_token), new, "a login");
    assert_eq!(kid(&access_token(author.refresh())), new, "a refresh");
    assert_eq!(kid(&office.impersonate(&admin, &author).access_token), new, "a start");
    again.get("/v1/me").expect(200);

    let entries = entries(&admin, &new);
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    assert_eq!((&entry["action"], &entry["origin"]), (&json!("key.created"), &json!("cli")));
    assert_eq!((&entry["note"], &entry["subject"]), (&json!("made by `actas keys rotate`"), &Value::Null));
    assert_eq!(entry["changes"], json!({ "algorithm": { "from": null, "to": "EdDSA" } }));
}

fn a_rotation_counts_on_every_instance_at_once(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let other = office.second_instance().unwrap();
    let (acting, old) = (office.impersonate(&admin, &author), kid(&admin.access_token));
    for _ in 0..2 {
        let new = rotate(office);
        for (made, asked) in [(office, &other), (&other, office)] {
            let login = json!({ "email": author.email, "password": author.password });
            let token = access_token(made.anonymous().post("/v1/auth/login", login));
            assert_eq!(kid(&token), new);
            asked.anonymous().with_token(&token).get("/v1/me").expect(200);
            asked.anonymous().with_token(&token).post("/v1/articles", article()).expect(201);
            for older in [&*admin, &*author, &acting] {
                older.at(asked).get("/v1/me").expect(200);
            }
        }
        assert_ne!(new, old);
    }
    assert_eq!(log_out_at(&other, &acting).expect(200).str("access_token"), admin.access_token);
}

fn instances_of_two_algorithms_work_side_by_side(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let rsa = office.start_again_with(&[("SIGNING_ALGORITHM", "RS256")]).unwrap();
    let login = |office: &Office, person: &Person| {
        access_token(office.anonymous().post("/v1/auth/login", json!({ "email": person.email, "password": person.password })))
    };
    for _ in 0..2 {
        for (made, asked, algorithm) in [(office, &rsa, "EdDSA"), (&rsa, office, "RS256")] {
            let token = login(made, &admin);
            assert_eq!(header_of(&token)["alg"], algorithm);
            let admin = asked.anonymous().with_token(&token);
            admin.get("/v1/me").expect(200);
            let acting = asked.impersonate(&admin, &author);
            assert_ne!(header_of(&acting.access_token)["alg"], algorithm, "made by the other one");
            assert_eq!(log_out_at(made, &acting).expect(200).str("access_token"), token);
        }
        rotate(office);
        command(office, &["keys", "rotate", "--signing-algorithm", "RS256"]).expect(0);
    }
}

fn the_original_token_comes_back_across_a_rotation(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let acting = office.impersonate(&admin, &author);
    let new = rotate(office);
    let later = office.impersonate(&admin, &author);
    assert_eq!(kid(&later.access_token), new);
    rotate(office);
    office.restart();
    for acting in [acting, later] {
        assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token, "byte for byte");
    }
    admin.get("/v1/me").expect(200);
}

fn the_original_token_comes_back_across_a_change_of_algorithm(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let acting = office.impersonate(&admin, &author);
    office.stop();
    let rsa = office.start_again_with(&[("SIGNING_ALGORITHM", "RS256")]).unwrap();
    let token = access_token(log_out_at(&rsa, &acting));
    assert_eq!((&token, &header_of(&token)["alg"]), (&admin.access_token, &json!("EdDSA")));

    let refreshed = rsa.anonymous().post("/v1/auth/refresh", json!({ "refresh_token": admin.refresh_token }));
    let original = access_token(refreshed);
    assert_eq!(header_of(&original), json!({ "typ": "at+jwt", "alg": "RS256", "kid": kid(&original) }));
    let acting = rsa.impersonate(&rsa.anonymous().with_token(&original), &author);
    rsa.stop();
    office.restart();
    assert_eq!(header_of(&office.impersonate(&admin, &author).access_token)["alg"], "EdDSA", "back again");
    assert_eq!(access_token(log_out_at(office, &acting)), original);
    office.anonymous().with_token(&original).get("/v1/me").expect(200);
}

fn a_server_makes_a_key_of_its_algorithm_once(setup: Setup) {
    let office = setup.with("SIGNING_ALGORITHM", "RS256").open();
    let admin = office.administrator();
    assert_eq!(header_of(&admin.access_token)["alg"], "RS256");
    assert_eq!(office.db_lines("SELECT algorithm AS value FROM keys ORDER BY 1"), ["HS256", "RS256"]);
    office.restart();
    assert_eq!(kid(&admin.log_in_again().access_token), kid(&admin.access_token));
    office.stop();
    for _ in 0..2 {
        let ed = office.start_again_with(&[("SIGNING_ALGORITHM", "EdDSA")]).unwrap();
        admin.at(&ed).get("/v1/me").expect(200);
        ed.stop();
        assert_eq!(office.db_lines("SELECT algorithm AS value FROM keys ORDER BY 1"), ["EdDSA", "HS256", "RS256"]);
    }
}

fn the_newest_key_signs_whatever_the_clock_said(setup: Setup) {
    // The key of a machine whose clock was far ahead.
    let unopened = setup.unopened();
    unopened.advance(86_400);
    let office = unopened.second_instance().unwrap();
    let admin = office.administrator();
    let new = rotate(&office);
    assert_eq!(kid(&admin.log_in_again().access_token), new);
    let listed = command(&office, &["keys", "list", "--json"]).expect(0).json();
    assert_eq!((&listed["items"][0]["kid"], &listed["items"][0]["signs"]), (&json!(new), &json!(true)));
}

// Retiring.

/// Nothing can be done with this token here, and it is not told from a foreign one.
#[track_caller]
fn is_dead(token: &str, office: &Office) {
    let caller = office.anonymous().with_token(token);
    caller.get("/v1/me").problem(401, "invalid_token");
    caller.post("/v1/articles", article()).problem(401, "invalid_token");
    caller.post_empty("/v1/auth/logout").problem(401, "invalid_token");
}

fn a_retired_keys_tokens_are_dead_at_once(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let old = kid(&admin.access_token);
    let new = rotate(office);
    let fresh = admin.log_in_again();
    let ran = retire(office, &old).expect(0);
    assert_eq!((ran.line(), ran.stderr.as_str()), (old.as_str(), ""));
    for token in [&admin.access_token, &author.access_token] {
        is_dead(token, office);
        is_dead(token, office);
    }
    fresh.get("/v1/me").expect(200);

    // The sessions live on.
    let refreshed = access_token(author.refresh());
    assert_eq!(kid(&refreshed), new);
    let author = author.with_token(&refreshed);
    author.get("/v1/me").expect(200);
    draft_by(&author);
    office.restart();
    is_dead(&admin.access_token, office);
    author.get("/v1/me").expect(200);

    let key = |column: &str| office.db_text(&format!("SELECT {column} FROM keys WHERE kid = '{old}'")).unwrap_or_default();
    assert_eq!(key("private_key"), "", "the private half is erased");
    assert_ne!(key("retired_at"), "");
    let actions: Vec<_> = entries(&fresh, &old).iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["key.retired", "key.created"]);
}

fn draft_by(author: &Caller) {
    author.post("/v1/articles", article()).expect(201);
}

fn a_retired_keys_tokens_are_dead_on_every_instance(office: &Office) {
    let other = office.second_instance().unwrap();
    let author = office.author();
    let old = kid(&author.access_token);
    for office in [office, &other] {
        author.at(office).get("/v1/me").expect(200);
    }
    rotate(office);
    // Each instance meets it first with another kind of call.
    retire(office, &old).expect(0);
    author.at(&other).post("/v1/articles", article()).problem(401, "invalid_token");
    author.post_empty("/v1/auth/logout").problem(401, "invalid_token");
    for office in [office, &other] {
        is_dead(&author.access_token, office);
    }
    let refreshed = other.anonymous().post("/v1/auth/refresh", json!({ "refresh_token": author.refresh_token }));
    office.anonymous().with_token(&access_token(refreshed)).get("/v1/me").expect(200);
}

fn a_narrower_token_is_signed_and_dies_as_any_other(office: &Office) {
    let author = office.author();
    let exchanged = |token: &str| {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("client_id", "actas"),
            ("subject_token", token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ];
        let form = form.map(|(name, value)| format!("{name}={value}")).join("&");
        office.anonymous().request("POST", "/oauth/token").body("application/x-www-form-urlencoded", form).send()
    };
    let old = kid(&author.access_token);
    let by_old = access_token(exchanged(&author.access_token));
    assert_eq!(kid(&by_old), old);
    let new = rotate(office);
    office.restart();
    let by_new = access_token(exchanged(&author.access_token));
    assert_eq!(kid(&by_new), new);
    let (of_by_new, of_fresh) = (access_token(exchanged(&by_new)), access_token(exchanged(&author.log_in_again().access_token)));
    for token in [&by_old, &by_new, &of_by_new, &of_fresh] {
        office.anonymous().with_token(token).get("/v1/me").expect(200);
    }
    retire(office, &old).expect(0);
    is_dead(&by_old, office);
    for token in [&author.access_token, &by_old] {
        assert_eq!(exchanged(token).expect(400).str("error"), "invalid_request");
    }
    // Whoever had the old key could have forged the token that these were made of, however new their own key is.
    for token in [&by_new, &of_by_new] {
        office.anonymous().with_token(token).get("/v1/me").problem(401, "session_ended");
        assert_eq!(exchanged(token).expect(400).str("error"), "invalid_request");
    }
    office.anonymous().with_token(&of_fresh).get("/v1/me").expect(200);
}

fn retiring_a_key_ends_what_its_tokens_started(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let old = kid(&admin.access_token);
    let by_old = office.impersonate(&admin, &author);
    rotate(office);
    let acting = office.impersonate(&admin, &author);
    let expired = office.impersonate_with(&admin, &author, json!({ "duration_seconds": 1 }));
    let fresh = admin.log_in_again();
    let spared = office.impersonate(&fresh, &author);
    office.advance(2);
    expired.get("/v1/me").problem(401, "impersonation_ended");

    let ran = command(office, &["keys", "retire", "--json", "--", &old]).expect(0).json();
    assert_eq!(ran, json!({ "kid": old, "was_retired": false, "impersonations": 2 }));
    is_dead(&by_old.access_token, office);
    assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "original_session_ended");
    for acting in [&acting, &expired] {
        acting.log_out().problem(401, "impersonation_ended");
    }
    spared.get("/v1/me").expect(200);
    assert_eq!(spared.log_out().expect(200).str("access_token"), fresh.access_token);
    assert_eq!(office.db_count(&format!("SELECT count(*) FROM ways_back WHERE kid = '{old}'")), 0);

    for id in [&by_old.id, &acting.id] {
        assert_eq!(fresh.get(&format!("/v1/impersonations/{id}")).expect(200).str("cause"), "original_session_ended");
        let ended = fresh.get(&format!("/v1/history?resource_id={id}&action=impersonation.ended")).expect(200);
        assert_eq!(ended.items().len(), 1);
        assert_eq!((ended.str("items/0/origin"), ended.str("items/0/note")), ("cli", "retired by `actas keys retire`"));
        assert_eq!(ended.str("items/0/changes/cause/to"), "original_session_ended");
    }
}

fn no_start_slips_past_a_retirement(office: &Office) {
    let author = office.author();
    for _ in 0..3 {
        let admins: Vec<_> = (0..4).map(|_| office.administrator()).collect();
        let old = kid(&admins[0].access_token);
        rotate(office);
        at_once(5, |number| match admins.get(number) {
            Some(admin) => {
                for _ in 0..10 {
                    let start = json!({ "reason": "a race" });
                    let answer = admin.post(&format!("/v1/users/{}/impersonate", author.id), start);
                    if answer.status != 201 {
                        answer.problem(401, "invalid_token");
                        break;
                    }
                }
            }
            None => drop(retire(office, &old).expect(0)),
        });
        let live = "SELECT count(*) FROM sessions WHERE actor_id IS NOT NULL AND ended_at IS NULL";
        assert_eq!(office.db_count(live), 0);
        assert_eq!(office.db_count("SELECT count(*) FROM ways_back"), 0);
    }
}

fn the_key_that_signs_is_not_retired(office: &Office) {
    let admin = office.administrator();
    let signs = kid(&admin.access_token);
    let ran = retire(office, &signs).expect(1);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("rotate first"), "{ran:#?}");
    admin.get("/v1/me").expect(200);
    // A newer key of another algorithm doesn't stand in for it.
    command(office, &["keys", "rotate", "--signing-algorithm", "RS256"]).expect(0);
    retire(office, &signs).expect(1);
    command(office, &["keys", "rotate", "--signing-algorithm", "EdDSA"]).expect(0);
    retire(office, &signs).expect(0);

    let again = retire(office, &signs).expect(0);
    assert_eq!((again.line(), again.stderr.trim()), (signs.as_str(), "it was retired before; nothing was changed"));
    assert_eq!(office.db_count("SELECT count(*) FROM entries WHERE action = 'key.retired'"), 1);
}

fn an_unknown_key_is_told_from_one_that_signs_nothing(office: &Office) {
    for unknown in ["nothing", "'; DROP TABLE keys; --", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"] {
        let ran = retire(office, unknown).expect(3);
        assert!(ran.stderr.contains("there is no key"), "{ran:#?}");
    }
    let derives = office.db_text("SELECT kid FROM keys WHERE purpose = 'refresh'").unwrap();
    let ran = retire(office, &derives).expect(1);
    assert!(ran.stderr.contains("signs nothing"), "{ran:#?}");
    office.author().refresh().expect(200);
}

// Importing.

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A new key as OpenSSL would write it, and its kid.
fn ed25519() -> (String, String) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    (pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()), thumbprint(&format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)))
}

fn thumbprint(members: &str) -> String {
    URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, members.as_bytes()))
}

/// A new RSA key in PKCS#8.
fn rsa(size: KeySize) -> Vec<u8> {
    RsaKeyPair::generate(size).unwrap().as_der().unwrap().as_ref().to_vec()
}

fn import(office: &Office, pem: &str, arguments: &[&str]) -> Ran {
    run(on(&office.database_url(), &[&["keys", "import", "-"], arguments].concat()), pem.as_bytes())
}

fn a_key_from_elsewhere_signs(office: &Office) {
    let admin = office.administrator();
    let (pem, wanted) = ed25519();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.pem");
    fs::write(&file, format!("a remark\n{pem}another")).unwrap();
    let ran = command(office, &["keys", "import", file.to_str().unwrap()]).expect(0);
    assert_eq!((ran.line(), ran.stderr.as_str()), (wanted.as_str(), ""));
    let again = admin.log_in_again();
    assert_eq!(kid(&again.access_token), wanted);
    again.get("/v1/me").expect(200);
    admin.get("/v1/me").expect(200);
    let entries = entries(&admin, &wanted);
    assert_eq!((entries.len(), &entries[0]["action"], &entries[0]["origin"]), (1, &json!("key.imported"), &json!("cli")));
    // A rotation stays with the algorithm, and the way back with its key.
    let acting = office.impersonate(&again, &office.author());
    rotate(office);
    assert_eq!(acting.log_out().expect(200).str("access_token"), again.access_token);
}

fn an_rsa_key_from_elsewhere_signs(setup: Setup) {
    let office = setup.with("SIGNING_ALGORITHM", "RS256").open();
    let admin = office.administrator();
    let of_2048 = rsa(KeySize::Rsa2048);
    // What a key of that size holds begins there.
    let kinds = [
        pem("RSA PRIVATE KEY", &of_2048[26..]),
        pem("PRIVATE KEY", &rsa(KeySize::Rsa2048)).replace('\n', "\r\n"),
        pem("PRIVATE KEY", &rsa(KeySize::Rsa4096)),
    ];
    for pem in &kinds {
        let ran = import(&office, pem, &["--signing-algorithm", "RS256", "--json"]).expect(0);
        let shown = ran.json();
        assert_eq!((&shown["algorithm"], &shown["signs"], &shown["retired_at"]), (&json!("RS256"), &json!(true), &Value::Null));
        assert_eq!(ran.stderr, "");
        let again = admin.log_in_again();
        assert_eq!(kid(&again.access_token), shown["kid"].as_str().unwrap());
        again.get("/v1/me").expect(200);
        let acting = office.impersonate(&again, &office.author());
        assert_eq!(acting.log_out().expect(200).str("access_token"), again.access_token);
    }
    admin.get("/v1/me").expect(200);
    // Whoever uses the other algorithm is told that this key has to wait.
    let ran = import(&office, &ed25519().0, &["--signing-algorithm", "RS256"]).expect(0);
    assert!(ran.stderr.contains("ACTAS_SIGNING_ALGORITHM=EdDSA"), "{ran:#?}");
    assert_eq!(header_of(&admin.log_in_again().access_token)["alg"], "RS256");
    // Both ways of writing the first one are the same key.
    import(&office, &pem("PRIVATE KEY", &of_2048), &["--signing-algorithm", "RS256"]).expect(3);
}

fn a_key_is_imported_once(office: &Office) {
    let (pem, kid) = ed25519();
    import(office, &pem, &[]).expect(0);
    let ran = import(office, &pem, &[]).expect(3);
    assert!(ran.stdout.is_empty() && ran.stderr.contains(&format!("{kid} exists already")), "{ran:#?}");
    rotate(office);
    retire(office, &kid).expect(0);
    let ran = import(office, &pem, &[]).expect(3);
    assert!(ran.stderr.contains("it was retired"), "{ran:#?}");
    assert_eq!(office.db_count(&format!("SELECT count(*) FROM entries WHERE resource_id = '{kid}'")), 2);
    assert_eq!(office.db_count(&format!("SELECT count(*) FROM keys WHERE kid = '{kid}' AND retired_at IS NULL")), 0);
}

/// DER of this tag around these parts.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82], length.as_slice(), &content].concat()
}

/// What is an RSA key of this many bytes as far as anybody reads who looks at its size first.
fn sham_rsa(bytes: usize, exponent: &[u8]) -> String {
    let modulus = [&[0], vec![0xc5; bytes].as_slice()].concat();
    pem("RSA PRIVATE KEY", &der(0x30, &[&[2, 1, 0], &der(2, &[&modulus]), &der(2, &[exponent])]))
}

fn what_is_no_such_key_is_refused_and_never_repeated(office: &Office) {
    let before = office.db_count("SELECT count(*) FROM keys");
    let ed = ed25519().0;
    let body = ed.lines().nth(1).unwrap();
    let rsa = rsa(KeySize::Rsa2048);
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
    let mut bent = rsa.clone();
    *bent.last_mut().unwrap() ^= 1;
    let encrypted = pem("RSA PRIVATE KEY", &rsa[26..]).replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1);
    let refused = [
        (String::new(), "no PEM"),
        (body.to_owned(), "no PEM"),
        (ed.replace("-----BEGIN", "----BEGIN"), "no PEM"),
        (ed.replace("END PRIVATE", "END PUBLIC"), "not well-formed PEM"),
        (ed.replace(body, &body[..body.len() - 4]), "not a well-formed private key"),
        (ed.replace(body, &format!("{}%", &body[1..])), "not well-formed PEM"),
        (ed.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "encrypted"),
        (encrypted, "encrypted"),
        (ed.replace("PRIVATE", "PUBLIC"), "public key"),
        (ed.replace("PRIVATE KEY", "CERTIFICATE"), "certificate"),
        (ed.replace("PRIVATE", "OPENSSH PRIVATE"), "OpenSSH"),
        (pem("PRIVATE KEY", ec.as_ref()), "elliptic-curve"),
        (pem("EC PRIVATE KEY", b"x"), "elliptic-curve"),
        (ed.replace("PRIVATE", "DSA PRIVATE"), "another kind"),
        (format!("{ed}{}", pem("PRIVATE KEY", &rsa)), "several"),
        (format!("{ed}{ed}"), "several"),
        (pem("RSA PRIVATE KEY", &rsa), "not a well-formed private key"),
        (pem("PRIVATE KEY", &rsa[..rsa.len() / 2]), "not a well-formed private key"),
        (pem("PRIVATE KEY", &bent), "don't belong together"),
        (pem("RSA PRIVATE KEY", &rsa[26..]).replace("RSA ", ""), "not a well-formed private key"),
        (sham_rsa(128, &[1, 0, 1]), "1024 bits"),
        (sham_rsa(255, &[1, 0, 1]), "2040 bits"),
        (sham_rsa(2048, &[1, 0, 1]), "16384 bits"),
        (sham_rsa(256, &[3]), "below 65537"),
        (sham_rsa(256, &[1, 0, 1]), "not a well-formed private key"),
        (format!("{ed}{}", "x".repeat(100_000)), "larger than any key"),
    ];
    for (pem, why) in refused {
        let ran = import(office, &pem, &[]);
        // A key without its private parts is well-formed as far as it was read.
        let why = if ran.stderr.contains("don't belong together") && why.starts_with("not a well") { "don't belong together" } else { why };
        assert!(ran.status == Some(2) && ran.stdout.is_empty() && ran.stderr.contains(why), "`{why}` is not in {ran:#?}");
        let told: Vec<_> = pem.lines().filter(|line| line.len() > 16 && !line.starts_with("---") && ran.stderr.contains(line)).collect();
        assert!(told.is_empty(), "{ran:#?}");
    }
    let ran = run(on(&office.database_url(), &["keys", "import", "-"]), b"\xff\xfe\x00").expect(2);
    assert!(ran.stderr.contains("no text"), "{ran:#?}");
    command(office, &["keys", "import", "/no/such/file.pem"]).expect(1);
    assert_eq!(office.db_count("SELECT count(*) FROM keys"), before);
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";

fn keys_from_the_command_line_are_sealed_as_the_others_are(setup: Setup) {
    let office = setup.with("KEY_ENCRYPTION_KEY", KEY).open();
    let admin = office.administrator();
    let with = |key: Option<&str>, arguments: &[&str], input: &str| {
        let mut command = on(&office.database_url(), arguments);
        if let Some(key) = key {
            command.env("ACTAS_KEY_ENCRYPTION_KEY", key);
        }
        run(command, input.as_bytes())
    };
    let (pem, imported) = ed25519();
    for key in [None, Some(OTHER_KEY)] {
        for (arguments, input) in [(&["keys", "rotate"][..], ""), (&["keys", "import", "-"], pem.as_str())] {
            let ran = with(key, arguments, input).expect(1);
            assert!(ran.stderr.contains("ACTAS_KEY_ENCRYPTION_KEY") && !ran.stderr.contains(OTHER_KEY), "{ran:#?}");
        }
    }
    assert_eq!(office.db_count("SELECT count(*) FROM keys"), 2);
    let rotated = with(Some(KEY), &["keys", "rotate"], "").expect(0).line().to_owned();
    assert_eq!(kid(&admin.log_in_again().access_token), rotated);
    assert_eq!(with(Some(KEY), &["keys", "import", "-"], &pem).expect(0).line(), imported);
    assert_eq!(kid(&admin.log_in_again().access_token), imported);
    assert_eq!(office.db_count("SELECT count(*) FROM keys WHERE NOT sealed"), 0);
    let body = pem.lines().nth(1).unwrap();
    assert!(!office.db_lines("SELECT private_key AS value FROM keys").iter().any(|key| key.contains(body)));
    // Listing and retiring open nothing.
    with(None, &["keys", "list"], "").expect(0);
    with(None, &["keys", "retire", "--", &rotated], "").expect(0);
}

fn keys_are_listed(office: &Office) {
    let first = kid(&office.administrator().access_token);
    let second = rotate(office);
    retire(office, &first).expect(0);
    let rsa = command(office, &["keys", "rotate", "--signing-algorithm", "RS256"]).expect(0).line().to_owned();
    let third = command(office, &["keys", "rotate"]).expect(0).line().to_owned();
    let listed = command(office, &["keys", "list", "--json"]).expect(0).json();
    let items = listed["items"].as_array().unwrap();
    let shown: Vec<_> =
        items.iter().map(|key| (key["kid"].as_str().unwrap(), key["algorithm"].as_str().unwrap(), key["signs"] == true)).collect();
    // The newest one's algorithm, unless another is asked for.
    assert_eq!(shown, [(&*third, "RS256", true), (&rsa, "RS256", false), (&second, "EdDSA", true), (&first, "EdDSA", false)]);
    for key in items {
        let members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["algorithm", "created_at", "kid", "retired_at", "signs"]);
        assert_eq!(key["retired_at"].is_string(), key["kid"] == first.as_str());
    }
    let lines = command(office, &["keys", "list"]).expect(0).stdout;
    let words: Vec<Vec<&str>> = lines.lines().map(|line| line.split_whitespace().collect()).collect();
    let shown: Vec<_> = words.iter().map(|words| (words[0], words[1], words[3])).collect();
    let expected = [(&*third, "RS256", "signs"), (&rsa, "RS256", "checks"), (&second, "EdDSA", "signs"), (&first, "EdDSA", "retired")];
    assert_eq!(shown, expected);
}

// What others may know.

fn the_public_keys_are_public_and_nothing_else(office: &Office) {
    let old = kid(&office.administrator().access_token);
    let ed = rotate(office);
    let rsa = command(office, &["keys", "rotate", "--signing-algorithm", "RS256"]).expect(0).line().to_owned();
    let get = || office.anonymous().get("/.well-known/jwks.json").expect(200);
    let answer = get();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&answer.body), ["keys"]);
    let keys = answer.value("keys").as_array().unwrap();
    let kids: Vec<_> = keys.iter().map(|key| key["kid"].as_str().unwrap()).collect();
    assert_eq!(kids, [&rsa, &ed, &old], "newest first");
    for key in keys {
        assert_eq!(key["use"], "sig");
        if key["kty"] == "RSA" {
            assert_eq!(members(key), ["alg", "e", "kid", "kty", "n", "use"]);
            assert_eq!((&key["alg"], &key["e"]), (&json!("RS256"), &json!("AQAB")));
            let modulus = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
            assert!(modulus.len() == 256 && modulus[0] >= 0x80, "2048 bits without a leading zero");
            let (n, e) = (key["n"].as_str().unwrap(), key["e"].as_str().unwrap());
            assert_eq!(key["kid"], thumbprint(&format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)));
        } else {
            assert_eq!(members(key), ["alg", "crv", "kid", "kty", "use", "x"]);
            assert_eq!((&key["kty"], &key["alg"], &key["crv"]), (&json!("OKP"), &json!("EdDSA"), &json!("Ed25519")));
            let x = key["x"].as_str().unwrap();
            assert_eq!(key["kid"], thumbprint(&format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)));
        }
    }
    retire(office, &old).expect(0);
    let kids: Vec<_> = get().value("keys").as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
    assert_eq!(kids, [rsa, ed]);
}

fn the_public_keys_may_be_kept_until_they_change(office: &Office) {
    let nobody = office.anonymous();
    let ask = |tag: &str| nobody.request("GET", "/.well-known/jwks.json").header("If-None-Match", tag).send();
    let first = nobody.get("/.well-known/jwks.json").expect(200);
    let tag = first.header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let answer = ask(&known).expect(304);
        assert_eq!((answer.text.as_str(), answer.header("etag")), ("", Some(tag.as_str())));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=60"));
    }
    for unknown in ["\"x\"", "x", ""] {
        assert_eq!(ask(unknown).expect(200).header("cache-control"), Some("public, max-age=60"));
    }
    office.restart();
    ask(&tag).expect(304);
    rotate(office);
    let second = ask(&tag).expect(200);
    assert_ne!(second.header("etag"), Some(tag.as_str()));
    let head = nobody.request("HEAD", "/.well-known/jwks.json").send().expect(200);
    assert_eq!((head.text.as_str(), head.header("etag")), ("", second.header("etag")));
    nobody.get("/.well-known/jwks.json?kid=x").problem(400, "unknown_parameter");
    nobody.post_empty("/.well-known/jwks.json").problem(405, "method_not_allowed");
}

fn others_can_check_tokens_with_the_public_keys(first: &Office) {
    first.stop();
    for algorithm in ["EdDSA", "RS256"] {
        let office = first.start_again_with(&[("SIGNING_ALGORITHM", algorithm)]).unwrap();
        let admin = office.administrator();
        rotate(&office);
        let newer = admin.log_in_again();
        let set: JwkSet = serde_json::from_value(office.anonymous().get("/.well-known/jwks.json").expect(200).body).unwrap();
        for token in [&admin.access_token, &newer.access_token] {
            let jwk = set.find(&kid(token)).unwrap();
            assert_eq!(jwk.common.key_algorithm.unwrap().to_string(), algorithm);
            let mut validation = Validation::new(if algorithm == "RS256" { Algorithm::RS256 } else { Algorithm::EdDSA });
            validation.set_audience(&["actas"]);
            let checked = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(jwk).unwrap(), &validation).unwrap();
            assert_eq!(checked.claims["sub"], admin.id.as_str());
        }
    }
}

// Being somebody else's key.

fn a_key_is_used_with_its_own_algorithm_only(setup: Setup) {
    let office = setup.with("SIGNING_ALGORITHM", "RS256").open();
    let admin = office.administrator();
    let ed = command(&office, &["keys", "rotate", "--signing-algorithm", "EdDSA"]).expect(0).line().to_owned();
    let private = |algorithm: &str| {
        let key = office.db_text(&format!("SELECT private_key FROM keys WHERE algorithm = '{algorithm}'")).unwrap();
        STANDARD.decode(key).unwrap()
    };
    let (rsa_key, ed_key) = (EncodingKey::from_rsa_der(&private("RS256")[26..]), EncodingKey::from_ed_der(&private("EdDSA")));
    let public = office.anonymous().get("/.well-known/jwks.json").expect(200);
    let n = public.body["keys"].as_array().unwrap().iter().find_map(|key| key["n"].as_str()).unwrap().to_owned();
    let forge = |alg: &str, kid: &str, with: Algorithm, key: &EncodingKey| {
        let header = json!({ "typ": "at+jwt", "alg": alg, "kid": kid });
        let input = [header, claims_of(&admin.access_token)].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = jsonwebtoken::crypto::sign(input.as_bytes(), key, with).unwrap();
        office.anonymous().with_token(&format!("{input}.{signature}")).get("/v1/me")
    };
    let rsa = kid(&admin.access_token);
    forge("RS256", &rsa, Algorithm::RS256, &rsa_key).expect(200);
    forge("EdDSA", &ed, Algorithm::EdDSA, &ed_key).expect(200);
    for (alg, kid, with, key) in [
        ("EdDSA", &rsa, Algorithm::RS256, &rsa_key),
        ("EdDSA", &rsa, Algorithm::EdDSA, &ed_key),
        ("RS256", &ed, Algorithm::EdDSA, &ed_key),
        ("RS256", &ed, Algorithm::RS256, &rsa_key),
        ("RS256", &rsa, Algorithm::EdDSA, &ed_key),
        ("RS256", &rsa, Algorithm::PS256, &rsa_key),
        ("PS256", &rsa, Algorithm::PS256, &rsa_key),
        ("RS512", &rsa, Algorithm::RS512, &rsa_key),
        ("RS256", &rsa, Algorithm::RS512, &rsa_key),
        ("rs256", &rsa, Algorithm::RS256, &rsa_key),
        ("none", &rsa, Algorithm::RS256, &rsa_key),
    ] {
        forge(alg, kid, with, key).problem(401, "invalid_token");
    }
    // The public key taken for a secret that both know.
    let modulus = URL_SAFE_NO_PAD.decode(&n).unwrap();
    for secret in [n.as_bytes(), &modulus, public.text.as_bytes(), rsa.as_bytes(), b""] {
        for alg in ["HS256", "RS256"] {
            forge(alg, &rsa, Algorithm::HS256, &EncodingKey::from_secret(secret)).problem(401, "invalid_token");
        }
    }
    let derives = office.db_text("SELECT kid FROM keys WHERE purpose = 'refresh'").unwrap();
    forge("HS256", &derives, Algorithm::HS256, &EncodingKey::from_secret(&private("HS256"))).problem(401, "invalid_token");
}

fn a_kid_names_a_key_and_nothing_else(office: &Office) {
    let admin = office.administrator();
    let parts: Vec<_> = admin.access_token.split('.').collect();
    let (long, almost) = ("A".repeat(5000), "A".repeat(43));
    let derives = office.db_text("SELECT kid FROM keys WHERE purpose = 'refresh'").unwrap();
    for kid in [
        "",
        "/dev/null",
        "../../../../../../../../../../../dev/null/..",
        "' OR '1'='1",
        "' UNION SELECT kid FROM keys WHERE purpose=",
        "https://evil.example/.well-known/jwks.json#",
        "%",
        "___________________________________________",
        "\0",
        &long,
        &almost,
        &derives,
    ] {
        let header = json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": kid });
        let token = format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), parts[1], parts[2]);
        office.anonymous().with_token(&token).get("/v1/me").problem(401, "invalid_token");
    }
    admin.get("/v1/me").expect(200);
}

// From before.

fn a_database_of_the_first_version_keeps_its_keys(setup: Setup) {
    let unopened = setup.unopened();
    let first = match unopened.backend() {
        Backend::Sqlite => include_str!("../../migrations/sqlite/2026-11-23-000000_create/up.sql"),
        Backend::Postgres => include_str!("../../migrations/postgres/2026-11-23-000000_create/up.sql"),
    };
    let (pem, wanted) = ed25519();
    let key = |kid: &str, purpose: &str, algorithm: &str, private: &str| {
        format!(
            "INSERT INTO keys (kid, purpose, algorithm, private_key, sealed, created_at)
             VALUES ('{kid}', '{purpose}', '{algorithm}', '{private}', FALSE, '2026-01-01 00:00:00');"
        )
    };
    let rows = [
        key(&wanted, "sign", "EdDSA", pem.lines().nth(1).unwrap()),
        key("cmVmcmVzaA", "refresh", "HS256", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
    ]
    .concat();
    let applied = "CREATE TABLE __diesel_schema_migrations (
        version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
        INSERT INTO __diesel_schema_migrations (version) VALUES ('20261123000000');";
    unopened.db_script(&format!("{first} {applied} {rows}")).unwrap();

    let office = unopened.second_instance().unwrap();
    let admin = office.administrator();
    assert_eq!(kid(&admin.access_token), wanted);
    assert_eq!(office.db_count("SELECT count(*) FROM keys"), 2);
    admin.refresh().expect(200);
    rotate(&office);
    retire(&office, &wanted).expect(0);
    is_dead(&admin.access_token, &office);
}

fn no_log_holds_a_key(office: &Office) {
    let admin = office.administrator();
    let old = kid(&admin.access_token);
    let program = Program::serving(office, &[("ACTAS_LOG", "trace"), ("ACTAS_LOG_FORMAT", "json")]);
    let here = &program.office;
    let (pem, imported) = ed25519();
    let mut told = String::new();
    let mut secrets = office.db_lines("SELECT private_key AS value FROM keys");
    let rsa = self::pem("PRIVATE KEY", &rsa(KeySize::Rsa2048));
    for (arguments, input) in [
        (&["keys", "rotate"][..], ""),
        (&["keys", "import", "-"], pem.as_str()),
        (&["keys", "import", "-", "--signing-algorithm", "RS256"], rsa.as_str()),
        (&["keys", "import", "-"], pem.as_str()),
        (&["keys", "list"], ""),
        (&["keys", "retire", "--", &old], ""),
    ] {
        let mut command = on(&office.database_url(), arguments);
        command.env("ACTAS_LOG", "trace").env("ACTAS_LOG_FORMAT", "json");
        let ran = run(command, input.as_bytes());
        told += &(ran.stdout + &ran.stderr);
    }
    secrets.extend(office.db_lines("SELECT private_key AS value FROM keys WHERE retired_at IS NULL"));
    secrets.extend(pem.lines().chain(rsa.lines()).filter(|line| line.len() == 64).map(str::to_owned));
    let login = json!({ "email": admin.email, "password": admin.password });
    assert_eq!(kid(&access_token(here.anonymous().post("/v1/auth/login", login))), imported);
    here.anonymous().get("/.well-known/jwks.json").expect(200);
    admin.at(here).get("/v1/me").problem(401, "invalid_token");
    told += &program.kill();
    for secret in secrets {
        assert!(!told.contains(&secret), "a log holds a key: {secret}");
    }
}
