//! The form of component and pipeline ids: `TYPE[/NAME]`.

/// Says what is wrong with an id, if anything is.
pub(super) fn flaw(id: &str) -> Option<String> {
    let (kind, name) = match id.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (id, None),
    };
    let mut characters = kind.chars();
    let kind_fits = characters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && kind.len() <= 63;
    if !kind_fits {
        return Some(format!(
            "{id:?} is no id: the type before the / begins with a letter and has up to 63 letters, digits and underscores"
        ));
    }
    let name = name?;
    let name_fits = (1..=1024).contains(&name.chars().count())
        && !name.chars().any(|c| c.is_whitespace() || c.is_control() || "$+<=>^`|~".contains(c));
    (!name_fits)
        .then(|| format!("{id:?} is no id: the name after the / has 1 to 1024 characters, no spaces and no symbols"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for right in ["otlp", "otlp/2", "a_b1/x-y.z:ü", "otlp/a/b"] {
            assert_eq!(flaw(right), None, "{right}");
        }
        for wrong in [
            "",
            "/x",
            "1a",
            "a-b",
            "otlp/",
            "otlp/a b",
            "otlp/a|b",
            &"a".repeat(64),
            &format!("a/{}", "b".repeat(1025)),
        ] {
            assert!(flaw(wrong).is_some(), "{wrong}");
        }
    }
}
