//! What clients find out about us by themselves (RFC 8414).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::document::operations;
use crate::harness::{Office, Setup, TOKEN_EXCHANGE, claims_of};

api_tests! {
    the_metadata_says_what_holds,
    the_metadata_is_open_to_everybody_and_may_be_kept,
    addresses_are_public_and_the_issuer_is_the_tokens,
    an_issuer_with_a_path_has_its_metadata_behind_the_well_known_name,
    every_grant_and_every_way_to_authenticate_that_is_listed_is_known,
}

const PATH: &str = "/.well-known/oauth-authorization-server";

fn words(value: &Value) -> BTreeSet<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

fn the_metadata_says_what_holds(office: &Office) {
    let answer = office.anonymous().get(PATH).expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.str("issuer"), "http://localhost:8080");
    for (member, path) in
        [("token_endpoint", "/oauth/token"), ("introspection_endpoint", "/oauth/introspect"), ("revocation_endpoint", "/oauth/revoke")]
    {
        assert_eq!(answer.str(member), format!("http://localhost:8080{path}"));
        assert!(operations().any(|(method, known, _)| method == "POST" && known == path), "{path}");
    }
    for member in ["jwks_uri", "service_documentation"] {
        office.anonymous().get(answer.str(member).strip_prefix("http://localhost:8080").unwrap()).expect(200);
    }
    assert_eq!(words(answer.value("grant_types_supported")), BTreeSet::from(["client_credentials", "refresh_token", TOKEN_EXCHANGE]));
    assert_eq!(answer.value("response_types_supported"), &json!([]));
    let all = BTreeSet::from(["client_secret_basic", "client_secret_post", "none"]);
    assert_eq!(words(answer.value("token_endpoint_auth_methods_supported")), all);
    assert_eq!(words(answer.value("revocation_endpoint_auth_methods_supported")), all);
    let confidential = BTreeSet::from(["client_secret_basic", "client_secret_post"]);
    assert_eq!(words(answer.value("introspection_endpoint_auth_methods_supported")), confidential, "who looks at tokens proves who it is");
    let client = office.client(json!({}));
    let every = client.credentials(&[]).expect(200).str("scope").to_owned();
    assert_eq!(words(answer.value("scopes_supported")), every.split(' ').collect());
}

fn the_metadata_is_open_to_everybody_and_may_be_kept(office: &Office) {
    let admin = office.administrator();
    let expected = office.anonymous().get(PATH).expect(200).text;
    for answer in [
        admin.get(PATH),
        office.anonymous().with_token("rubbish").get(PATH),
        office.anonymous().request("GET", PATH).header("Accept", "text/html").send(),
    ] {
        let answer = answer.expect(200);
        assert_eq!(answer.text, expected);
        assert!(answer.header("cache-control").is_some_and(|value| value.contains("max-age=")), "{answer}");
        assert_eq!(answer.header("set-cookie"), None);
    }
    assert_eq!(office.anonymous().request("HEAD", PATH).send().expect(200).text, "");
    office.anonymous().post_empty(PATH).problem(405, "method_not_allowed");
    office.anonymous().get(&format!("{PATH}/elsewhere")).problem(404, "not_found");
}

fn addresses_are_public_and_the_issuer_is_the_tokens(setup: Setup) {
    let office = setup.with("PUBLIC_URL", "https://news.example").open();
    let admin = office.administrator();
    let client = office.client(json!({}));
    // Whatever a request says of the host: it is configured.
    let answer =
        office.anonymous().request("GET", PATH).header("X-Forwarded-Host", "evil.example").header("Forwarded", "host=evil.example").send();
    let answer = answer.expect(200);
    assert!(!answer.text.contains("evil.example"), "{answer}");
    assert_eq!(answer.str("issuer"), "https://news.example");
    assert_eq!(answer.str("token_endpoint"), "https://news.example/oauth/token");
    let own = client.credentials(&[]).expect(200);
    for token in [&admin.access_token, own.str("access_token")] {
        assert_eq!(&claims_of(token)["iss"], answer.value("issuer"));
        assert_eq!(&client.finds_active(token)["iss"], answer.value("issuer"));
    }
    // The document's address without the well-known part is the issuer (RFC 8414 §3.3).
    let address = format!("https://news.example{PATH}");
    assert_eq!(address.strip_suffix(PATH), Some(answer.str("issuer")));
}

fn an_issuer_with_a_path_has_its_metadata_behind_the_well_known_name(setup: Setup) {
    let office = setup.with("PUBLIC_URL", "https://news.example").with("ISSUER", "https://news.example/desk/one").open();
    let at = |path: &str| office.anonymous().get(&format!("{PATH}{path}"));
    let answer = at("/desk/one").expect(200);
    assert_eq!((answer.str("issuer"), answer.str("token_endpoint")), ("https://news.example/desk/one", "https://news.example/oauth/token"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    for other in ["/desk", "/desk/two", "/desk/one/more", "/one", "//desk/one"] {
        assert_eq!(at(other).status, 404, "{other}");
    }
    assert_eq!(claims_of(&office.administrator().access_token)["iss"], "https://news.example/desk/one");
}

fn every_grant_and_every_way_to_authenticate_that_is_listed_is_known(office: &Office) {
    let metadata = office.anonymous().get(PATH).expect(200);
    let client = office.client(json!({}));
    for grant in words(metadata.value("grant_types_supported")) {
        let answer = client.token(&[("grant_type", grant)]);
        assert_ne!(answer.body["error"], "unsupported_grant_type", "{answer}");
    }
    client.token(&[("grant_type", "password")]).oauth(400, "unsupported_grant_type");
    for (member, path) in [
        ("token_endpoint_auth_methods_supported", "/oauth/token"),
        ("introspection_endpoint_auth_methods_supported", "/oauth/introspect"),
        ("revocation_endpoint_auth_methods_supported", "/oauth/revoke"),
    ] {
        let fields = [("token", "x"), ("grant_type", "client_credentials")];
        let mut taken = BTreeSet::new();
        for (method, answer) in [
            ("client_secret_basic", client.post(path, &fields)),
            (
                "client_secret_post",
                client
                    .bare(path, &[&fields[..], &[("client_id", client.id.as_str()), ("client_secret", client.secret.as_str())]].concat())
                    .send(),
            ),
            ("none", office.first_party().post(path, &fields)),
        ] {
            if answer.status != 401 {
                taken.insert(method);
            }
        }
        assert_eq!(words(metadata.value(member)), taken, "{member}");
    }
}
