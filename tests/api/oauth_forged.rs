//! Hundreds of forged and foreign tokens at every endpoint that takes one: none is accepted, none breaks anything, none is logged.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::harness::{ACCESS_TOKEN, Acting, BILLING, Caller, Client, Forger, JWT, Office, Person, Program, claims_of, header_of};
use crate::oauth_exchange::narrowed;

api_tests! {
    no_forged_token_is_taken_for_a_bearer,
    no_forged_token_is_exchanged,
    no_forged_token_starts_an_impersonation,
    no_forged_token_is_active,
    no_forged_token_revokes_anything,
    tokens_of_different_contexts_are_not_spliced_together,
    a_tokens_audience_and_its_rows_must_agree,
    no_line_of_the_log_holds_a_token,
}

const NOBODY: &str = "019aa0f0-0000-7000-8000-000000000001";

/// People with live tokens of every kind, which have to be as alive afterwards.
struct Bench {
    admin: Person,
    editor: Person,
    client: Client,
    other: Client,
    acting: Acting,
    through: Acting,
    of_own: String,
    of_acting: String,
    to_billing: String,
    own: String,
}

impl Bench {
    fn set(office: &Office) -> Self {
        let (admin, editor) = (office.administrator(), office.editor());
        let (client, other) = (office.presenter(json!({})), office.presenter(json!({})));
        let acting = office.impersonate(&admin, &editor);
        let through = client.impersonate(&admin, &editor, &[]);
        Self {
            of_own: narrowed(&client, &editor.access_token, &[]),
            of_acting: narrowed(&client, &acting.access_token, &[]),
            to_billing: narrowed(&client, &editor.access_token, &[("audience", BILLING)]),
            own: client.credentials(&[]).expect(200).str("access_token").to_owned(),
            admin,
            editor,
            client,
            other,
            acting,
            through,
        }
    }

    /// One live token of every kind.
    fn tokens(&self) -> [&str; 7] {
        [
            &self.admin.access_token,
            &self.editor.access_token,
            &self.acting.access_token,
            &self.through.access_token,
            &self.of_own,
            &self.of_acting,
            &self.own,
        ]
    }

    /// Demands that everything that was alive still is, and that nobody gained anything.
    fn is_as_it_was(&self, office: &Office) {
        for token in self.tokens().into_iter().chain([self.to_billing.as_str()]) {
            self.client.finds_active(token);
        }
        assert_eq!(office.db_count("SELECT count(*) FROM sessions WHERE actor_id IS NOT NULL"), 2);
        assert_eq!(office.db_count("SELECT count(*) FROM exchanged_sessions"), 3);
        assert_eq!(office.db_count("SELECT count(*) FROM client_sessions"), 1);
        assert_eq!(office.db_count("SELECT count(*) FROM ways_back"), 2);
        assert_eq!(
            office.db_count("SELECT count(*) FROM entries WHERE action IN ('session.ended', 'impersonation.ended', 'article.created')"),
            0
        );
        assert_eq!(self.acting.log_out().expect(200).str("access_token"), self.admin.access_token);
        assert_eq!(self.through.log_out().expect(200).str("access_token"), self.admin.access_token);
    }

    /// Tokens that the server never made, some of them with its own key. Some hundreds, each with what it is.
    fn forged(&self, office: &Office) -> Vec<(String, String)> {
        let mut forged = Vec::new();
        let forger = Forger::of(office);
        for token in self.tokens() {
            self.bend_the_text(token, &mut forged);
            self.bend_the_header(&forger, token, &mut forged);
            self.bend_the_claims(&forger, token, &mut forged);
        }
        forged.extend(foreign(self).map(|(what, token)| (what.to_owned(), token)));
        assert!(forged.len() > 500, "only {}", forged.len());
        forged
    }

    fn bend_the_text(&self, token: &str, forged: &mut Vec<(String, String)>) {
        let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        let other_signature = self.to_billing.rsplit('.').next().unwrap();
        let mut add = |what: &str, token: String| forged.push((what.to_owned(), token));
        add("no signature", format!("{header}.{payload}."));
        add("two parts", format!("{header}.{payload}"));
        add("four parts", format!("{token}."));
        add("another's signature", format!("{header}.{payload}.{other_signature}"));
        add("a character more", format!("{token}A"));
        add("a character less", token[..token.len() - 1].to_owned());
        add("padding", format!("{token}="));
        add("a space", format!("{token} "));
        add("a line", format!("{token}\n"));
        add("twice", format!("{token} {token}"));
        add("in capitals", token.to_uppercase());
        // One character changed, everywhere in turn.
        for number in 0..16 {
            let at = number * (token.len() - 2) / 16;
            let changed = match &token[at..=at] {
                "A" => "B",
                "." => "A",
                _ => "A",
            };
            add("a character changed", format!("{}{changed}{}", &token[..at], &token[at + 1..]));
        }
        for alg in ["none", "None", "HS256", "RS256", "ES256", "PS256"] {
            let mut other = header_of(token);
            other["alg"] = json!(alg);
            let other = URL_SAFE_NO_PAD.encode(other.to_string());
            add("another algorithm unsigned", format!("{other}.{payload}."));
            add("another algorithm", format!("{other}.{payload}.{signature}"));
        }
    }

    fn bend_the_header(&self, forger: &Forger, token: &str, forged: &mut Vec<(String, String)>) {
        for (member, value) in [
            ("typ", json!("JWT")),
            ("typ", json!("rt+jwt")),
            ("typ", json!("id_token")),
            ("typ", Value::Null),
            ("typ", json!(["at+jwt"])),
            ("kid", json!("../../dev/null")),
            ("kid", json!("' OR 1=1 --")),
            ("kid", json!("")),
            ("kid", Value::Null),
            ("alg", json!("none")),
            ("alg", json!("ES256")),
            ("crit", json!(["exp"])),
            ("b64", json!(false)),
            ("jku", json!("https://evil.example/keys")),
            ("jwk", json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" })),
            ("x5u", json!("https://evil.example/cert")),
            ("cty", json!("JWT")),
            ("zip", json!("DEF")),
        ] {
            forged.push((format!("header {member} {value}"), forger.with_header(token, |header| header[member] = value.clone())));
        }
        for member in ["typ", "kid"] {
            let without = forger.with_header(token, |header| drop(header.as_object_mut().unwrap().remove(member)));
            forged.push((format!("header without {member}"), without));
        }
    }

    fn bend_the_claims(&self, forger: &Forger, token: &str, forged: &mut Vec<(String, String)>) {
        let claims = claims_of(token);
        let mut add = |what: String, change: &dyn Fn(&mut Value)| {
            let bent = forger.with_claims(token, |claims| change(claims));
            if claims_of(&bent) != claims {
                forged.push((what, bent));
            }
        };
        for member in ["iss", "sub", "aud", "client_id", "exp", "iat", "nbf", "jti", "sid"] {
            add(format!("no {member}"), &|claims| drop(claims.as_object_mut().unwrap().remove(member)));
            for value in [Value::Null, json!([]), json!({}), json!(true), json!(1.5), json!(""), json!("x y")] {
                // A token may be named anything; and of the audience of what a login or a plain start gave, the rows say nothing, but only Actas takes it.
                let is_free = member == "jti" || (member == "aud" && claims.get("scope").is_none());
                if !is_free || value != "x y" {
                    add(format!("{member} {value}"), &|claims| claims[member] = value.clone());
                }
            }
        }
        for member in ["exp", "iat", "nbf"] {
            add(format!("{member} as text"), &|claims| claims[member] = json!(claims[member].to_string()));
        }
        for member in ["scope", "root_sid", "act"] {
            for value in [Value::Null, json!([]), json!({}), json!(true), json!(1), json!(["users:read"])] {
                add(format!("{member} {value}"), &|claims| claims[member] = value.clone());
            }
        }
        let ahead = |claims: &Value, member: &str| json!(claims[member].as_i64().unwrap() + 600);
        add("not yet".to_owned(), &|claims| claims["nbf"] = ahead(claims, "nbf"));
        add("from the future".to_owned(), &|claims| claims["iat"] = ahead(claims, "iat"));
        add("another issuer".to_owned(), &|claims| claims["iss"] = json!("https://evil.example"));
        let sids: Vec<Value> = self.tokens().iter().map(|token| claims_of(token)["sid"].clone()).chain([json!(NOBODY)]).collect();
        for sid in &sids {
            add(format!("sid {sid}"), &|claims| claims["sid"] = sid.clone());
            add(format!("root_sid {sid}"), &|claims| claims["root_sid"] = sid.clone());
        }
        for id in [&self.admin.id, &self.editor.id, &self.client.id, &self.other.id, &NOBODY.to_owned(), &"actas".to_owned()] {
            add(format!("sub {id}"), &|claims| claims["sub"] = json!(id));
            add(format!("act {id}"), &|claims| claims["act"] = json!({ "sub": id }));
            add(format!("act {id} and more"), &|claims| claims["act"] = json!({ "sub": id, "act": { "sub": NOBODY } }));
            add(format!("client_id {id}"), &|claims| claims["client_id"] = json!(id));
            add(format!("sub and client_id {id}"), &|claims| {
                claims["sub"] = json!(id);
                claims["client_id"] = json!(id);
            });
        }
        if claims.get("act").is_some() {
            add("no act".to_owned(), &|claims| drop(claims.as_object_mut().unwrap().remove("act")));
            add("swapped".to_owned(), &|claims| {
                (claims["sub"], claims["act"]) = (claims["act"]["sub"].clone(), json!({ "sub": claims["sub"] }));
            });
        }
        if claims.get("root_sid").is_some() {
            add("no root_sid".to_owned(), &|claims| drop(claims.as_object_mut().unwrap().remove("root_sid")));
        }
    }
}

/// What is somebody's secret or name, and no access token.
fn foreign(bench: &Bench) -> impl Iterator<Item = (&'static str, String)> {
    [
        ("a refresh token", bench.editor.refresh_token.clone()),
        ("a client's secret", bench.client.secret.clone()),
        ("a client's id", bench.client.id.clone()),
        ("a session's id", bench.editor.session_id.clone()),
        ("a password", bench.editor.password.clone()),
        ("dots", "..".to_owned()),
        ("one dot", ".".to_owned()),
        ("nonsense", "nonsense".to_owned()),
        ("SQL", "' OR 1=1 --".to_owned()),
        ("much", "a".repeat(20_000)),
        ("many dots", ".".repeat(2_000)),
        (
            "another's JWT",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U".to_owned(),
        ),
        ("of another kind", "\u{202e}\u{1}\u{7f}é".to_owned()),
    ]
    .into_iter()
}

/// Whether `token` can stand in a header at all.
fn is_sendable(token: &str) -> bool {
    token.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

fn draft() -> Value {
    json!({ "title": "Forged", "abstract": "", "body": "" })
}

fn no_forged_token_is_taken_for_a_bearer(office: &Office) {
    let bench = Bench::set(office);
    for (number, (what, token)) in bench.forged(office).into_iter().enumerate() {
        if !is_sendable(&token) || token.ends_with(' ') {
            continue;
        }
        let caller: Caller = office.anonymous().with_token(&token);
        let answer = match number % 4 {
            0 => caller.get("/v1/me"),
            1 => caller.post("/v1/articles", draft()),
            2 => caller.post_empty("/v1/auth/logout"),
            _ => caller.get("/v1/users"),
        };
        assert!(answer.status == 401 && answer.body["code"] == "invalid_token", "{what}: {answer}");
        assert!(!answer.text.contains(&token), "{what}");
    }
    bench.is_as_it_was(office);
}

fn no_forged_token_is_exchanged(office: &Office) {
    let bench = Bench::set(office);
    for (number, (what, token)) in bench.forged(office).into_iter().enumerate() {
        let kind = if number % 2 == 0 { ACCESS_TOKEN } else { JWT };
        let client = if number % 5 == 0 { &bench.other } else { &bench.client };
        let answer = client.exchange(&token, &[("subject_token_type", kind)]);
        assert!(answer.status == 400 && answer.body["error"] == "invalid_request", "{what}: {answer}");
        assert!(!answer.text.contains(&token) || token.len() < 3, "{what}: {answer}");
    }
    bench.is_as_it_was(office);
}

fn no_forged_token_starts_an_impersonation(office: &Office) {
    let bench = Bench::set(office);
    let author = office.author();
    for (what, token) in bench.forged(office) {
        let answer = bench.client.start(&token, &author.id, &[]);
        assert!(answer.status == 400 && answer.body["error"] == "invalid_request", "{what}: {answer}");
        assert!(!answer.text.contains(&token) || token.len() < 3, "{what}: {answer}");
    }
    assert_eq!(office.db_count("SELECT count(*) FROM entries WHERE action = 'impersonation.refused'"), 0, "nobody is blamed for a forgery");
    bench.is_as_it_was(office);
}

fn no_forged_token_is_active(office: &Office) {
    let bench = Bench::set(office);
    for (number, (what, token)) in bench.forged(office).into_iter().enumerate() {
        let client = if number % 5 == 0 { &bench.other } else { &bench.client };
        let answer = client.introspect(&token);
        assert!(answer.status == 200 && answer.body == json!({ "active": false }), "{what}: {answer}");
    }
    bench.is_as_it_was(office);
}

fn no_forged_token_revokes_anything(office: &Office) {
    let bench = Bench::set(office);
    let first_party = office.first_party();
    // A refresh token is a token to be revoked.
    for (what, token) in bench.forged(office).into_iter().filter(|(what, _)| what != "a refresh token") {
        for client in [&first_party, &bench.client] {
            let answer = client.revoke(&token);
            // One that says it was given to somebody else is told so.
            assert!(answer.status == 200 || answer.body["error"] == "invalid_grant", "{what}: {answer}");
            assert!(!answer.text.contains(&token) || token.len() < 3, "{what}: {answer}");
        }
    }
    bench.is_as_it_was(office);
}

fn tokens_of_different_contexts_are_not_spliced_together(office: &Office) {
    let bench = Bench::set(office);
    let (chief, author) = (office.administrator(), office.author());
    // An actor beside a token that has one, beside one that has none, or a subject that is a token.
    for subject in bench.tokens() {
        for actor in bench.tokens() {
            let asked = [("actor_token", actor), ("actor_token_type", ACCESS_TOKEN)];
            bench.client.exchange(subject, &asked).oauth(400, "invalid_request");
            bench.client.start(actor, subject, &[]).oauth(400, "invalid_request");
        }
    }
    // The parts of two tokens.
    let tokens = bench.tokens();
    for one in tokens {
        for other in tokens.into_iter().chain([chief.access_token.as_str(), &author.access_token]).filter(|other| *other != one) {
            let (input, signature) = (one.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1);
            bench.client.finds_inactive(&format!("{input}.{signature}"));
        }
    }
    bench.is_as_it_was(office);
}

fn a_tokens_audience_and_its_rows_must_agree(office: &Office) {
    let bench = Bench::set(office);
    let forger = Forger::of(office);
    let for_whom = |token: &str, aud: Value| forger.with_claims(token, |claims| claims["aud"] = aud);
    let at_us = |token: &str| office.anonymous().with_token(token).get("/v1/me");
    // What was made for another service is not to be turned into one for Actas.
    at_us(&for_whom(&bench.to_billing, json!("actas"))).problem(401, "invalid_token");
    at_us(&for_whom(&bench.to_billing, json!([BILLING, "actas"]))).problem(401, "invalid_token");
    for token in [&bench.of_own, &bench.of_acting, &bench.own, &bench.through.access_token] {
        bench.client.finds_inactive(&for_whom(token, json!(BILLING)));
        bench.client.finds_inactive(&for_whom(token, json!(["actas", BILLING])));
    }
    bench.is_as_it_was(office);
}

fn no_line_of_the_log_holds_a_token(office: &Office) {
    let bench = Bench::set(office);
    let forged = bench.forged(office);
    let program = Program::serving(office, &[("ACTAS_LOG", "trace"), ("ACTAS_LOG_FORMAT", "json")]);
    let here = &program.office;
    let client = bench.client.at(here);
    let first_party = here.first_party();
    let author = bench.editor.id.as_str();
    let forged: Vec<_> = forged.into_iter().filter(|(_, token)| token.len() > 12).step_by(3).collect();
    for (number, (_, token)) in forged.iter().enumerate() {
        let answer = match number % 6 {
            0 => client.exchange(token, &[]),
            1 => client.start(token, author, &[]),
            2 => client.introspect(token),
            3 => client.revoke(token),
            4 => first_party.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]),
            _ => client.with_secret(token).introspect(token),
        };
        assert!(answer.status < 500, "{answer}");
    }
    // And what is accepted.
    let made = [
        client.exchange(&bench.editor.access_token, &[]).expect(200),
        client.credentials(&[]).expect(200),
        client.start(&bench.admin.access_token, &bench.editor.id, &[]).expect(200),
        first_party.token(&[("grant_type", "refresh_token"), ("refresh_token", &bench.admin.refresh_token)]).expect(200),
    ];
    client.revoke(made[1].str("access_token")).expect(200);
    client.finds_active(&bench.of_acting);
    let post = [("token", bench.own.as_str()), ("client_id", client.id.as_str()), ("client_secret", client.secret.as_str())];
    client.bare("/oauth/introspect", &post).send().expect(200);
    let log = program.kill();

    assert!(log.lines().count() > forged.len(), "every request has its line");
    assert!(log.lines().any(|line| line.contains("/oauth/token") && line.contains(&client.id)), "a line names the client");
    let of_token = |token: &str| token.rsplit('.').next().filter(|part| part.len() > 20).unwrap_or(token).to_owned();
    let mut secrets: Vec<String> = forged.iter().map(|(_, token)| of_token(token)).collect();
    secrets.extend(made.iter().map(|answer| of_token(answer.str("access_token"))));
    secrets.extend(bench.tokens().map(of_token));
    secrets.push(made[3].str("refresh_token").to_owned());
    secrets.push(bench.admin.refresh_token.clone());
    secrets.push(client.secret.clone());
    secrets.push(client.secret["actas_cs_".len()..].to_owned());
    // What names somebody may be told.
    for secret in secrets.iter().filter(|secret| **secret != client.id && **secret != bench.editor.session_id) {
        let leak = log.lines().find(|line| line.contains(secret.as_str()));
        assert!(leak.is_none(), "the log holds a token: {secret}: {leak:?}");
    }
}
