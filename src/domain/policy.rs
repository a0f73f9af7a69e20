//! The policy: what the office lays down about impersonation, beyond what roles say. It is one row, changed by the API; the environment may pin any of it.

use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::article::ArticleAction;
use super::error::{Code, Error, FieldError, Result};
use super::impersonation::Mode;
use super::operation::{self, Effect, Under};
use super::role::Role;
use super::text::{Reason, TextError};
use super::user::UserRef;
use super::{Time, string_enum};

/// The longest that an impersonation may be allowed to last, or to go unused, in seconds: a day.
pub const MAX_SECONDS: u32 = 86_400;

/// The longest reason there is, so that no longer one can be demanded.
const MAX_REASON: u32 = 500;

/// The most that a limit may say.
const MAX_COUNT: u32 = 10_000;

/// Reads a stored list, less what this version doesn't know: a newer one may have put it there, and it must not stop this one.
fn known<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let stored = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(stored.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect())
}

macro_rules! terms {
    ($( $(#[$meta:meta])* $variant:ident, $field:ident: $type:ty = $default:expr, $text:tt; )+) => {
        /// What the policy says, all of it.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct PolicyTerms { $( $(#[$meta])* pub $field: $type ),+ }

        impl Default for PolicyTerms {
            /// What an office begins with.
            fn default() -> Self { Self { $( $field: $default ),+ } }
        }

        /// A change of the policy, or what is pinned of it. `None` leaves a setting as it is.
        #[derive(Debug, Clone, Default)]
        pub struct PolicyChange { $( pub $field: Option<$type> ),+ }

        string_enum! {
            /// A setting of the policy.
            pub enum PolicySetting {
                $( $variant => $text ),+,
                /// Whether it is frozen.
                Freeze => "freeze",
            }
        }

        impl PolicyTerms {
            /// These terms with `change` in them.
            #[must_use]
            pub fn changed(&self, change: &PolicyChange) -> Self {
                Self { $( $field: change.$field.clone().unwrap_or_else(|| self.$field.clone()) ),+ }
            }
        }

        impl PolicyChange {
            /// The settings that this names.
            pub fn settings(&self) -> Vec<PolicySetting> {
                let mut settings = Vec::new();
                $( if self.$field.is_some() { settings.push(PolicySetting::$variant); } )+
                settings
            }
        }
    };
}

terms! {
    /// Whether a start must give a reason.
    ReasonRequired, reason_required: bool = true, "reason_required";
    /// How many characters a reason has at least.
    ReasonMinLength, reason_min_length: u32 = 1, "reason_min_length";
    /// Whether a start must name a ticket.
    TicketRequired, ticket_required: bool = false, "ticket_required";
    /// What a ticket must look like as a whole.
    TicketPattern, ticket_pattern: Option<TicketPattern> = None, "ticket_pattern";
    /// How long an impersonation lasts that names no duration, in seconds.
    DefaultDurationSeconds, default_duration_seconds: u32 = 1800, "default_duration_seconds";
    /// The longest duration to ask for, in seconds.
    MaxDurationSeconds, max_duration_seconds: u32 = 3600, "max_duration_seconds";
    /// How long an impersonation may go unused, in seconds; 0 is no limit.
    IdleSeconds, idle_seconds: u32 = 900, "idle_seconds";
    /// Whether a start must carry a restore challenge.
    RestoreProofRequired, restore_proof_required: bool = false, "restore_proof_required";
    /// The mode of an impersonation that names none.
    DefaultMode, default_mode: Mode = Mode::Full, "default_mode";
    /// Actors in these roles may only look.
    #[serde(deserialize_with = "known")]
    ReadOnlyRoles, read_only_roles: Vec<Role> = Vec::new(), "read_only_roles";
    /// Nobody acts as a user in one of these roles.
    #[serde(deserialize_with = "known")]
    ProtectedRoles, protected_roles: Vec<Role> = Vec::new(), "protected_roles";
    /// How many impersonations one actor may have at once; 0 is no limit.
    MaxLivePerActor, max_live_per_actor: u32 = 0, "max_live_per_actor";
    /// How many impersonations one actor may start within an hour; 0 is no limit.
    MaxStartsPerHour, max_starts_per_hour: u32 = 0, "max_starts_per_hour";
    /// What is refused under impersonation beside what always is.
    #[serde(deserialize_with = "known")]
    RefusedOperations, refused_operations: Vec<RefusedOperation> = Vec::new(), "refused_operations";
}

impl PolicyTerms {
    /// The duration of a start that names none: never above the longest, whichever of the two is pinned.
    pub fn usual_duration(&self) -> u32 {
        self.default_duration_seconds.min(self.max_duration_seconds)
    }

    /// Each list in one order and without repetition, so that what is the same looks the same.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        fn sort<T: Ord>(list: &mut Vec<T>) {
            list.sort_unstable();
            list.dedup();
        }
        sort(&mut self.read_only_roles);
        sort(&mut self.protected_roles);
        sort(&mut self.refused_operations);
        self
    }

    /// # Errors
    /// 422 with everything that can't be, each by its setting's name.
    pub fn require_sane(&self) -> Result<()> {
        let mut errors = Vec::new();
        let mut bounded = |name: &str, value: u32, least: u32, most: u32| {
            if !(least..=most).contains(&value) {
                errors.push(FieldError::new(format!("/{name}"), "out_of_range", format!("must be {least} to {most}")));
            }
        };
        bounded("reason_min_length", self.reason_min_length, 1, MAX_REASON);
        bounded("default_duration_seconds", self.default_duration_seconds, 1, MAX_SECONDS);
        bounded("max_duration_seconds", self.max_duration_seconds, 1, MAX_SECONDS);
        bounded("idle_seconds", self.idle_seconds, 0, MAX_SECONDS);
        bounded("max_live_per_actor", self.max_live_per_actor, 0, MAX_COUNT);
        bounded("max_starts_per_hour", self.max_starts_per_hour, 0, MAX_COUNT);
        if errors.is_empty() { Ok(()) } else { Err(Error::invalid(errors)) }
    }
}

/// What a ticket must look like: a regular expression that matches the whole of it. It is matched in linear time whatever it says, and can't be large.
#[derive(Clone)]
pub struct TicketPattern {
    text: String,
    compiled: Regex,
}

impl TicketPattern {
    /// The longest pattern, in characters.
    pub const MAX_CHARACTERS: usize = 200;

    /// # Errors
    /// Where it is no regular expression, or too large a one.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let refused = |code, detail: String| TextError { code, detail };
        if text.is_empty() || text.chars().count() > Self::MAX_CHARACTERS {
            return Err(refused("out_of_range", format!("must have 1 to {} characters", Self::MAX_CHARACTERS)));
        }
        if text.chars().any(char::is_control) {
            return Err(refused("invalid_characters", "must not contain control characters".to_owned()));
        }
        // Alone first: `a)|(b` is none, although it would be one between our parentheses.
        let build = |text: &str| RegexBuilder::new(text).size_limit(1 << 18).dfa_size_limit(1 << 18).nest_limit(50).build();
        let compiled = build(text).and_then(|_| build(&format!(r"\A(?:{text})\z")));
        let compiled = compiled.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => refused("too_large", "must not repeat so much".to_owned()),
            _ => refused("invalid_pattern", "must be a regular expression such as `HELP-[0-9]+`".to_owned()),
        })?;
        Ok(Self { text: text.to_owned(), compiled })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn matches(&self, ticket: &str) -> bool {
        self.compiled.is_match(ticket)
    }
}

impl PartialEq for TicketPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for TicketPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketPattern({:?})", self.text)
    }
}

impl Serialize for TicketPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for TicketPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| serde::de::Error::custom(error.detail))
    }
}

/// Something that the policy refuses under impersonation: a call by its `operationId`, or what is done with an article, such as `article.accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusedOperation {
    Call(&'static str),
    Article(ArticleAction),
}

impl RefusedOperation {
    /// Everything that can be refused: what may run under impersonation at all, but for logging out, which nothing may block, and starting, which is refused
    /// anyway.
    pub fn all() -> impl Iterator<Item = Self> {
        let calls = operation::ALL.iter().filter(|requirements| {
            requirements.under_impersonation == Under::Allowed
                && !matches!(requirements.effect, Effect::EndsItself | Effect::StartsImpersonation)
        });
        calls.map(|requirements| Self::Call(requirements.id)).chain(ArticleAction::ALL.iter().copied().map(Self::Article))
    }

    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("article.") {
            Some(action) => ArticleAction::parse(action).map(Self::Article),
            None => Self::all().find(|operation| matches!(operation, Self::Call(id) if *id == text)),
        }
    }
}

impl fmt::Display for RefusedOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(id) => f.write_str(id),
            Self::Article(action) => write!(f, "article.{action}"),
        }
    }
}

impl Serialize for RefusedOperation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RefusedOperation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("must be an operationId that may run under impersonation, or such as `article.accept`"))
    }
}

/// That nobody acts as anybody, until it is lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    pub reason: Reason,
    /// When it began; `None` where the environment has it.
    pub since: Option<Time>,
    /// Who froze; `None` where the environment has it.
    pub by: Option<UserRef>,
}

/// What the environment says of the policy, whatever the row says.
#[derive(Debug, Clone, Default)]
pub struct Pins {
    pub change: PolicyChange,
    pub freeze: Option<Reason>,
}

/// The policy as its row has it.
#[derive(Debug, Clone)]
pub struct StoredPolicy {
    pub terms: PolicyTerms,
    pub freeze: Option<Freeze>,
    /// Raised by one with every change.
    pub version: i64,
    pub updated_at: Time,
}

/// The policy as it holds: the row, with what is pinned over it.
#[derive(Debug, Clone)]
pub struct Policy {
    pub terms: PolicyTerms,
    pub freeze: Option<Freeze>,
    pub pinned: Vec<PolicySetting>,
    /// The row's; 0 where there is none yet.
    pub version: i64,
    pub updated_at: Time,
}

impl Policy {
    /// What holds, where the row says `stored` and the environment `pins`.
    pub fn of(stored: StoredPolicy, pins: &Pins) -> Self {
        let StoredPolicy { terms, freeze, version, updated_at } = stored;
        let pinned_freeze = pins.freeze.clone().map(|reason| Freeze { reason, since: None, by: None });
        let mut pinned = pins.change.settings();
        pinned.extend(pinned_freeze.as_ref().map(|_| PolicySetting::Freeze));
        Self { terms: terms.changed(&pins.change), freeze: pinned_freeze.or(freeze), pinned, version, updated_at }
    }

    /// What an office begins with.
    pub fn initial(now: Time) -> Self {
        Self::of(StoredPolicy { terms: PolicyTerms::default(), freeze: None, version: 0, updated_at: now }, &Pins::default())
    }

    /// The mode of an impersonation by an actor in `role` that was started in mode `started`.
    pub fn mode_for(&self, role: Role, started: Mode) -> Mode {
        if self.terms.read_only_roles.contains(&role) { Mode::ReadOnly } else { started }
    }

    /// Whether an actor's starts have to be counted.
    pub fn limits_starts(&self) -> bool {
        self.terms.max_live_per_actor > 0 || self.terms.max_starts_per_hour > 0
    }

    /// Whether nobody may act as a user in this role.
    pub fn protects(&self, role: Role) -> bool {
        self.terms.protected_roles.contains(&role)
    }

    /// Whether a call is refused under impersonation by this policy.
    pub fn refuses_call(&self, operation_id: &str) -> bool {
        self.terms.refused_operations.iter().any(|refused| matches!(refused, RefusedOperation::Call(id) if *id == operation_id))
    }

    /// Whether an action is refused under impersonation by this policy, apart from its call.
    pub fn refuses_action(&self, action: ArticleAction) -> bool {
        self.terms.refused_operations.contains(&RefusedOperation::Article(action))
    }

    /// # Errors
    /// 409 `setting_pinned` naming each of `settings` that the environment pins.
    pub fn require_unpinned(&self, settings: &[PolicySetting]) -> Result<()> {
        let pinned: Vec<PolicySetting> = settings.iter().copied().filter(|setting| self.pinned.contains(setting)).collect();
        if pinned.is_empty() {
            return Ok(());
        }
        let errors = pinned.iter().map(|setting| {
            FieldError::new(format!("/{setting}"), Code::SettingPinned.as_str(), "the environment of the server sets it; change it there")
        });
        Err(Error::new(Code::SettingPinned, "some settings are pinned by the environment; see `errors`").with_errors(errors.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_matches_as_a_whole_or_not() {
        let pattern = TicketPattern::parse("HELP-[0-9]+|none").unwrap();
        assert!(pattern.matches("HELP-42") && pattern.matches("none"));
        for other in ["HELP-42x", "xHELP-42", "HELP-", "nonexistent", "HELP-42\n", ""] {
            assert!(!pattern.matches(other), "{other:?}");
        }
    }

    #[test]
    fn a_pattern_that_is_none_or_too_large_is_refused() {
        for (bad, code) in [
            ("", "out_of_range"),
            (&*"x".repeat(201), "out_of_range"),
            ("(", "invalid_pattern"),
            ("a)|(b", "invalid_pattern"),
            (r"(a)\1", "invalid_pattern"),
            ("(?=a)", "invalid_pattern"),
            (r"(\w{1000}){1000}", "too_large"),
            ("a\n", "invalid_characters"),
        ] {
            assert_eq!(TicketPattern::parse(bad).unwrap_err().code, code, "{bad:?}");
        }
    }

    #[test]
    fn a_pattern_that_would_run_away_elsewhere_answers() {
        let pattern = TicketPattern::parse("(a+)+b").unwrap();
        assert!(!pattern.matches(&"a".repeat(100)));
    }

    #[test]
    fn everything_that_can_be_refused_reads_as_it_is_written() {
        assert!(RefusedOperation::all().count() > 10);
        for operation in RefusedOperation::all() {
            assert_eq!(RefusedOperation::parse(&operation.to_string()), Some(operation));
        }
        for never in ["log_out", "start_impersonation", "update_user", "update_policy", "article.", "article.read", "nothing"] {
            assert_eq!(RefusedOperation::parse(never), None, "{never}");
        }
    }

    #[test]
    fn stored_terms_are_read_again_and_what_is_missing_is_as_at_first() {
        let terms = PolicyTerms {
            ticket_pattern: Some(TicketPattern::parse("A-[0-9]").unwrap()),
            read_only_roles: vec![Role::Support],
            refused_operations: vec![RefusedOperation::Article(ArticleAction::Accept), RefusedOperation::Call("create_article")],
            ..PolicyTerms::default()
        };
        let text = serde_json::to_string(&terms).unwrap();
        assert_eq!(serde_json::from_str::<PolicyTerms>(&text).unwrap(), terms);
        assert_eq!(serde_json::from_str::<PolicyTerms>("{}").unwrap(), PolicyTerms::default());
        let newer = r#"{"refused_operations":["fly","create_article"],"protected_roles":["boss","author"],"colour":"red"}"#;
        let read = serde_json::from_str::<PolicyTerms>(newer).unwrap();
        assert_eq!((read.refused_operations, read.protected_roles), (vec![RefusedOperation::Call("create_article")], vec![Role::Author]));
    }

    #[test]
    fn what_is_pinned_holds_and_says_so() {
        let now = Time::UNIX_EPOCH;
        let stored = StoredPolicy { terms: PolicyTerms::default(), freeze: None, version: 3, updated_at: now };
        let change = PolicyChange { max_duration_seconds: Some(60), ..PolicyChange::default() };
        let policy = Policy::of(stored, &Pins { change: change.clone(), freeze: Some(Reason::parse("an incident").unwrap()) });
        assert_eq!((policy.terms.max_duration_seconds, policy.terms.usual_duration()), (60, 60));
        assert_eq!(policy.pinned, [PolicySetting::MaxDurationSeconds, PolicySetting::Freeze]);
        assert!(policy.freeze.is_some());
        assert_eq!(policy.require_unpinned(&change.settings()).unwrap_err().code(), Code::SettingPinned);
        assert!(policy.require_unpinned(&[PolicySetting::IdleSeconds]).is_ok());
    }
}
