//! From the environment to text, and every mistake on the way.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::reference;
use super::settings::{DefaultValue, Setting};

pub(super) const PREFIX: &str = "ACTAS_";
const FILE_SUFFIX: &str = "_FILE";

/// The environment as this module reads it, so that a test can bring one of its own.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// This process's.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Self {
        std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().map(|name| (name, value))).collect()
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Everything that is wrong with the settings, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// One sentence a mistake, each beginning with the setting's name.
    pub fn mistakes(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Reads settings one by one and remembers every mistake. A reading method answers `None` only after a mistake.
pub(super) struct Reader<'a> {
    environment: &'a Environment,
    defaults: &'a [(&'a str, &'a str)],
    mistakes: Vec<String>,
    warnings: Vec<String>,
}

/// Whether a mistake may repeat the value it is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    Yes,
    No,
}

impl<'a> Reader<'a> {
    pub(super) fn new(environment: &'a Environment, defaults: &'a [(&'a str, &'a str)]) -> Self {
        Self { environment, defaults, mistakes: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn required<T>(&mut self, setting: &Setting, flag: &Option<String>, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.optional(setting, flag, parse)?
    }

    pub(super) fn secret<T>(&mut self, setting: &Setting, flag: &Option<String>, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.optional_secret(setting, flag, parse)?
    }

    pub(super) fn optional<T>(
        &mut self,
        setting: &Setting,
        flag: &Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        self.read(setting, flag, parse, Echo::Yes)
    }

    pub(super) fn optional_secret<T>(
        &mut self,
        setting: &Setting,
        flag: &Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        self.read(setting, flag, parse, Echo::No)
    }

    fn read<T>(
        &mut self,
        setting: &Setting,
        flag: &Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
        echo: Echo,
    ) -> Option<Option<T>> {
        let chosen = match flag {
            Some(value) => Ok(Some(value.clone())),
            None => self.chosen_in_environment(setting),
        };
        let chosen = match chosen {
            Ok(chosen) => chosen.or_else(|| self.default_of(setting)),
            Err(mistake) => {
                self.mistakes.push(mistake);
                return None;
            }
        };
        let Some(text) = chosen else { return Some(None) };
        if text.is_empty() {
            self.mistake(setting, "is set, but empty; unset it to get its default");
            return None;
        }
        match parse(&text) {
            Ok(value) => Some(Some(value)),
            Err(allowed) if echo == Echo::Yes => {
                self.mistake(setting, &format!("{allowed}; it is {text:?}"));
                None
            }
            Err(allowed) => {
                self.mistake(setting, &allowed);
                None
            }
        }
    }

    fn chosen_in_environment(&self, setting: &Setting) -> Result<Option<String>, String> {
        let variable = setting.variable();
        let file_variable = format!("{variable}{FILE_SUFFIX}");
        match (self.environment.0.get(&variable), self.environment.0.get(&file_variable)) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(format!("{variable} and {file_variable} are both set; keep one of them")),
            (Some(value), None) => value.to_str().map(|value| Some(value.to_owned())).ok_or_else(|| format!("{variable} must be UTF-8")),
            (None, Some(path)) => read_file(Path::new(path)).map(Some).map_err(|why| format!("{file_variable} {why}")),
        }
    }

    fn default_of(&self, setting: &Setting) -> Option<String> {
        if let Some((_, value)) = self.defaults.iter().find(|(name, _)| *name == setting.name) {
            return Some((*value).to_owned());
        }
        match setting.default {
            DefaultValue::Value(value) => Some(value.to_owned()),
            DefaultValue::Described(_) => None,
        }
    }

    /// Whether the operator chose it, rather than a default of ours.
    pub(super) fn is_chosen(&self, setting: &Setting, flag: &Option<String>) -> bool {
        let variable = setting.variable();
        flag.is_some() || self.environment.0.contains_key(&variable) || self.environment.0.contains_key(&format!("{variable}{FILE_SUFFIX}"))
    }

    pub(super) fn mistake(&mut self, setting: &Setting, what: &str) {
        self.mistakes.push(format!("{} {what}", setting.variable()));
    }

    pub(super) fn warning(&mut self, setting: &Setting, what: &str) {
        self.warnings.push(format!("{} {what}", setting.variable()));
    }

    pub(super) fn finish<T>(mut self, build: impl FnOnce(Vec<String>) -> Option<T>) -> Result<T, ConfigError> {
        self.warn_of_unknown_variables();
        if !self.mistakes.is_empty() {
            return Err(ConfigError(self.mistakes));
        }
        // Without a mistake every reading method answered a value.
        build(self.warnings).ok_or_else(|| ConfigError(vec!["the settings could not be read".to_owned()]))
    }

    /// A misspelt variable would otherwise be ignored in silence. It is no error, so that a newer version's settings don't stop an older one.
    fn warn_of_unknown_variables(&mut self) {
        let is_known = |name: &str| reference().any(|setting| name == setting.name || name.strip_suffix(FILE_SUFFIX) == Some(setting.name));
        let unknown = self
            .environment
            .0
            .keys()
            .filter(|variable| variable.strip_prefix(PREFIX).is_some_and(|name| !is_known(name) && !name.starts_with("TEST_")));
        self.warnings.extend(unknown.map(|variable| format!("{variable} is no setting of Actas and has no effect")));
    }
}

/// A file's text without its one trailing line break, which editors and `echo` add.
fn read_file(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("names a file that can't be read: {}: {error}", path.display()))?;
    let mut text = String::from_utf8(bytes).map_err(|_| format!("names a file that is not UTF-8: {}", path.display()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
