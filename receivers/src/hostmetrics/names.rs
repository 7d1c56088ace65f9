//! Include and exclude lists of names, as every scraper with names has them: `match_type` strict or regexp.
//!
//! Regexps are unanchored, as in the Collector: `sd` admits `sda1`. A name passes if no include list is given or one of its
//! patterns matches, and no pattern of the exclude list does.

use std::collections::HashSet;

use phoenix_pipeline::config::Report;
use regex::RegexSet;
use serde::{Deserialize, Serialize};

/// How the entries of a list are compared with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchType {
    /// Equal, letter by letter.
    Strict,
    /// The regular expression matches somewhere in the name.
    Regexp,
}

/// The Collector's cache settings for regexps. Accepted so that existing files start; matching here needs no cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegexpCache {
    /// Without effect.
    pub cacheenabled: bool,
    /// Without effect.
    pub cachemaxnumentries: u64,
}

/// A list under `include` or `exclude`, whatever its key is called.
pub(crate) trait NameList {
    /// The key of the list.
    const KEY: &'static str;
    /// The entries.
    fn entries(&self) -> &[String];
    /// How they are compared; required once there are entries.
    fn match_type(&self) -> Option<MatchType>;
}

/// Defines the settings struct of one kind of list: the same two keys, another name for the entries.
macro_rules! name_list {
    ($(#[$doc:meta])* $name:ident, $key:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Names or patterns; empty: the list does not restrict anything.
            pub $key: Vec<String>,
            /// How they are compared; required once there are entries, because a wrong guess would drop data silently.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub match_type: Option<$crate::hostmetrics::names::MatchType>,
            /// The Collector's regexp cache; accepted, without effect.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub regexp: Option<$crate::hostmetrics::names::RegexpCache>,
        }

        impl $crate::hostmetrics::names::NameList for $name {
            const KEY: &'static str = stringify!($key);
            fn entries(&self) -> &[String] {
                &self.$key
            }
            fn match_type(&self) -> Option<$crate::hostmetrics::names::MatchType> {
                self.match_type
            }
        }
    };
}
pub(crate) use name_list;

/// Reports what is wrong with a list; `path` is the list's place in the settings.
pub(crate) fn check<L: NameList>(list: &L, path: &str, report: &mut Report<'_>) {
    match list.match_type() {
        None if !list.entries().is_empty() => {
            report.error(path, "match_type is missing; allowed: strict, regexp");
        }
        Some(MatchType::Regexp) => {
            for (i, pattern) in list.entries().iter().enumerate() {
                if let Err(error) = RegexSet::new([pattern]) {
                    let why = error.to_string();
                    let why = why.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
                    report.error(
                        &format!("{path}.{}[{i}]", L::KEY),
                        format!("{pattern:?} is not a regular expression: {why}"),
                    );
                }
            }
        }
        _ => {}
    }
}

#[derive(Debug)]
enum Patterns {
    Strict(HashSet<String>),
    Regexp(RegexSet),
}

impl Patterns {
    fn new<L: NameList>(list: &L) -> Result<Option<Self>, String> {
        if list.entries().is_empty() {
            return Ok(None);
        }
        match list.match_type() {
            Some(MatchType::Regexp) => {
                RegexSet::new(list.entries()).map(|set| Some(Self::Regexp(set))).map_err(|e| e.to_string())
            }
            _ => Ok(Some(Self::Strict(list.entries().iter().cloned().collect()))),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Strict(names) => names.contains(name),
            Self::Regexp(set) => set.is_match(name),
        }
    }
}

/// A compiled pair of lists.
#[derive(Debug)]
pub(crate) struct Filter {
    include: Option<Patterns>,
    exclude: Option<Patterns>,
}

impl Filter {
    /// Compiles the lists.
    ///
    /// # Errors
    /// A regexp that does not compile; [`check`] has reported it with its place before.
    pub(crate) fn new<L: NameList>(include: &L, exclude: &L) -> Result<Self, String> {
        Ok(Self { include: Patterns::new(include)?, exclude: Patterns::new(exclude)? })
    }

    /// Whether a name passes.
    pub(crate) fn admits(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|list| list.matches(name))
            && !self.exclude.as_ref().is_some_and(|list| list.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    name_list!(
        /// A list for these tests.
        Things,
        things
    );

    fn list(match_type: MatchType, things: &[&str]) -> Things {
        Things { things: things.iter().map(ToString::to_string).collect(), match_type: Some(match_type), regexp: None }
    }

    #[test]
    fn strict_is_equal_and_regexp_is_unanchored() {
        let strict = Filter::new(&list(MatchType::Strict, &["sda"]), &Things::default()).unwrap();
        assert!(strict.admits("sda") && !strict.admits("sda1"));
        let regexp = Filter::new(&list(MatchType::Regexp, &["sd"]), &list(MatchType::Regexp, &["^sda$"])).unwrap();
        assert!(regexp.admits("sda1") && !regexp.admits("sda") && !regexp.admits("vda"));
    }

    #[test]
    fn no_list_admits_everything_and_exclude_alone_excludes() {
        assert!(Filter::new(&Things::default(), &Things::default()).unwrap().admits("x"));
        let filter = Filter::new(&Things::default(), &list(MatchType::Strict, &["x"])).unwrap();
        assert!(!filter.admits("x") && filter.admits("y"));
    }
}
