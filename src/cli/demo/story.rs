//! What the demo prints: who is there, and a session to paste that tells what Actas is for.

use std::fmt::Write as _;

use super::newsroom::{ADA, CAST, ED, PRINT_SHOP, STORY_ARTICLE, Service};
use crate::domain::article::Article;

/// The session, with `{api}` and the like still in it. Each line is a command of its own. Needs bash, curl, jq and coreutils.
const SESSION: &str = r#"api={api} article={article}
ask() { curl -sS -H 'Content-Type: application/json' "$@"; }

# Ada, the administrator, logs in.
admin=$(ask $api/v1/auth/login -d '{"email": "{ada}", "password": "{password}"}' | jq -r .access_token)

# She looks up Ed, the editor. "allowed" is the button "act as" on his page.
ask -H "Authorization: Bearer $admin" "$api/v1/users?email={ed}" | jq -c '.items[] | {display_name, role, impersonation}'
ed=$(ask -H "Authorization: Bearer $admin" "$api/v1/users?email={ed}" | jq -r '.items[0].id')

# She acts as Ed. Only who knows the verifier gets her own token back at the end; the server is told its hash.
verifier=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
challenge=$(printf %b "$(printf %s $verifier | sha256sum | cut -c -64 | sed 's/../\\x&/g')" | base64 | tr '+/' '-_' | tr -d '=')
start='{"reason": "Ed cannot accept the article", "ticket": "HELP-42", "restore_challenge": "'$challenge'"}'
acting=$(ask -H "Authorization: Bearer $admin" $api/v1/users/$ed/impersonate -d "$start" | jq -r .access_token)

# Who am I, and as whom?
ask -H "Authorization: Bearer $acting" $api/v1/me | jq -c '{kind, subject: .subject.display_name, actor: .actor.display_name}'
jq -cR 'split(".")[1] | gsub("-"; "+") | gsub("_"; "/") | @base64d | fromjson | {sub, act}' <<<"$acting"

# Why can Ed not accept the article? She sees what he sees.
ask -H "Authorization: Bearer $acting" $api/v1/articles/$article | jq -c '{status}, (.actions[] | select(.action == "accept"))'

# She mends its title on his behalf, and starts the review that was missing.
ask -H "Authorization: Bearer $acting" -X PATCH $api/v1/articles/$article -d '{"title": "On the tides"}' | jq -c '{title, version}'
ask -H "Authorization: Bearer $acting" $api/v1/articles/$article/actions -d '{"action": "start_review"}' | jq -c '{status, version}'

# The history names both.
ask -H "Authorization: Bearer $acting" "$api/v1/articles/$article/history?limit=2" | jq -c '.items[] | {action, note, changes}'

# And back: logging out gives Ada her own token, byte for byte, and the other one is dead.
restored=$(ask -H "Authorization: Bearer $acting" $api/v1/auth/logout -d '{"restore_verifier": "'$verifier'"}' | jq -r .access_token)
[ "$restored" = "$admin" ] && echo "the original token, byte for byte"
ask -H "Authorization: Bearer $acting" $api/v1/me | jq -c '{code, cause}'
ask -H "Authorization: Bearer $restored" $api/v1/me | jq -c '{kind, subject: .subject.display_name}'
"#;

/// All that is printed when the demo is ready.
pub fn tell(base_url: &str, articles: &[Article]) -> String {
    let mut text = format!(
        "listening on {base_url}\n\nA newsroom to play with. It is gone when this process ends (Ctrl-C).\n\
         API: {base_url}/docs/   for programs: actas demo --json\n\nPeople\n\n"
    );
    for person in CAST {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  {:<12}  {:<13}  {:<21}  {:<16}  {}",
            person.name,
            person.role.as_str(),
            person.email,
            person.password,
            person.id
        );
    }
    let Service { id, secret, name, audience } = PRINT_SHOP;
    let _ = write!(text, "\nA service that takes tokens, for {audience}\n\n  {name}  {id}  {secret}\n");
    text.push_str("\nArticles\n\n");
    for article in articles {
        let people = match &article.editor {
            Some(editor) => format!("by {}, edited by {}", article.author.display_name, editor.display_name),
            None => format!("by {}", article.author.display_name),
        };
        let _ = writeln!(text, "  {:<18}  {}  {} ({people})", article.status.as_str(), article.id, article.title);
    }
    let session = SESSION.replace("{api}", base_url).replace("{article}", STORY_ARTICLE).replace("{ada}", ADA.email);
    let session = session.replace("{password}", ADA.password).replace("{ed}", ED.email);
    let _ = write!(text, "\nThe story, to paste into another terminal (bash, curl, jq)\n\n{session}");
    text
}
