//! Names of mirrors and their slices: templates, shortening, hashes.

use sha2::{Digest, Sha256};

use super::model::Key;

/// Longest name of a Service: a DNS label (RFC 1035).
const MAX_NAME: usize = 63;
/// Hex digits of the hash that keeps shortened names apart.
const HASH_DIGITS: usize = 8;

/// First `digits` hex digits of the SHA-256 of the fields joined by `/` (design: section 4).
pub fn hash(fields: &[&str], digits: usize) -> String {
    let mut hasher = Sha256::new();
    hasher.update(fields.join("/"));
    // Asked for each slice of each decision: a text of its own for each byte took a fifth of deciding.
    let halves = hasher.finalize().into_iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    halves.take(digits).filter_map(|half| char::from_digit(half.into(), 16)).collect()
}

/// A template with its variables filled in, such as `{service}`; an unknown one is an error that
/// names those there are.
pub fn fill(template: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    let mut out = String::with_capacity(template.len() + MAX_NAME);
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let close = rest[open..].find('}').ok_or_else(|| format!("{template:?} has a '{{' without a '}}'"))? + open;
        let name = &rest[open + 1..close];
        let Some((_, value)) = variables.iter().find(|(known, _)| *known == name) else {
            let known: Vec<String> = variables.iter().map(|(known, _)| format!("{{{known}}}")).collect();
            return Err(format!("{template:?} has the unknown variable {{{name}}}; use {}", known.join(", ")));
        };
        out.push_str(value);
        rest = &rest[close + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// What a name template may speak of.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// Name of the link.
    pub link: &'a str,
    /// The origin.
    pub origin: &'a Key,
}

impl Variables<'_> {
    fn render(self, template: &str) -> Result<String, String> {
        let Self { link, origin } = self;
        fill(template, &[("service", &origin.name), ("namespace", &origin.namespace), ("link", link)])
    }

    /// The mirror's name: rendered, and over 63 characters cut and closed by a hash of
    /// link/namespace/service, so that two long names that differ anywhere stay apart.
    pub fn mirror_name(self, template: &str) -> Result<String, String> {
        let rendered = self.render(template)?;
        let name = if rendered.len() <= MAX_NAME {
            rendered
        } else {
            let mut end = MAX_NAME - HASH_DIGITS - 1;
            while !rendered.is_char_boundary(end) {
                end -= 1;
            }
            let hash = hash(&[self.link, &self.origin.namespace, &self.origin.name], HASH_DIGITS);
            format!("{}-{hash}", &rendered[..end])
        };
        if is_service_name(&name) {
            Ok(name)
        } else {
            Err(format!(
                "{name:?} is not a Service name (lower-case letters, digits and '-', starting with a letter, ending with a letter or digit); change the policy's spec.mirror.name"
            ))
        }
    }

    /// The mirror's namespace.
    pub fn mirror_namespace(self, template: &str) -> Result<String, String> {
        let name = self.render(template)?;
        if is_label(&name) {
            Ok(name)
        } else {
            Err(format!("{name:?} is not a namespace name; change the policy's spec.mirror.namespace"))
        }
    }
}

/// Checks a template without an origin: its variables, and that {service} is there when required.
pub fn check_template(template: &str, service_required: bool) -> Result<(), String> {
    let origin = Key::new("namespace", "service");
    Variables { link: "link", origin: &origin }.render(template)?;
    if service_required && !template.contains("{service}") {
        return Err(format!("{template:?} lacks {{service}}, so that all mirrors would have one name"));
    }
    Ok(())
}

/// DNS-1035 label: what a Service may be called.
pub fn is_service_name(name: &str) -> bool {
    is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// DNS-1123 label: what a namespace may be called.
pub fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Name of a slice of a mirror: after a hash of its source.
pub fn slice_name(mirror: &str, source: &[&str]) -> String {
    format!("{mirror}-{}", hash(source, 10))
}

/// Namespaces that Kubernetes keeps for itself.
pub fn is_kube_namespace(namespace: &str) -> bool {
    namespace.starts_with("kube-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(service: &str, template: &str) -> Result<String, String> {
        let origin = Key::new("shop", service);
        Variables { link: "east", origin: &origin }.mirror_name(template)
    }

    #[test]
    fn m01_the_default_template_gives_service_and_link() {
        assert_eq!(name("books", "{service}-{link}").unwrap(), "books-east");
        assert_eq!(name("books", "{namespace}-{service}").unwrap(), "shop-books");
    }

    #[test]
    fn a_hash_is_the_first_digits_of_sha_256() {
        let whole = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&["abc"], 64), whole);
        assert_eq!(hash(&["abc"], 7), whole[..7]);
        assert_ne!(hash(&["a", "bc"], 64), whole);
    }

    #[test]
    fn m13_long_names_are_cut_and_differ_in_their_hash() {
        let (a, b) = ("a".repeat(62) + "x", "a".repeat(62) + "y");
        let (a, b) = (name(&a, "{service}-{link}").unwrap(), name(&b, "{service}-{link}").unwrap());
        assert_eq!(a.len(), 63);
        assert_ne!(a, b);
        assert_eq!(a[..54], b[..54]);
    }

    #[test]
    fn what_is_no_service_name_is_refused() {
        assert!(name("9lives", "{service}-{link}").unwrap_err().contains("not a Service name"));
        assert!(name("books", "{servce}").unwrap_err().contains("{servce}"));
        assert!(name("books", "{service").is_err());
        assert!(check_template("fixed", true).unwrap_err().contains("{service}"));
    }

    proptest! {
        #[test]
        fn every_rendered_name_is_a_service_name_or_an_error(service in ".{0,80}", template in ".{0,80}") {
            if let Ok(name) = name(&service, &template) {
                prop_assert!(is_service_name(&name));
            }
        }
    }
}
