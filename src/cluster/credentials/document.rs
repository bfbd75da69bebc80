//! YAML to the texts of a kubeconfig, and nothing else: the document is closed at every level.

use serde_json::Value;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use super::{CredentialsError, MAX_BYTES};

pub(super) const SERVER: &str = "clusters[0].cluster.server";
pub(super) const SERVER_NAME: &str = "clusters[0].cluster.tls-server-name";
pub(super) const AUTHORITY: &str = "clusters[0].cluster.certificate-authority-data";
pub(super) const TOKEN: &str = "users[0].user.token";
pub(super) const CERTIFICATE: &str = "users[0].user.client-certificate-data";
pub(super) const KEY: &str = "users[0].user.client-key-data";

/// Deepest nesting and most nodes of a kubeconfig; kubectl's has 4 levels and about 40 nodes.
const MAX_DEPTH: usize = 16;
const MAX_NODES: usize = 1000;

/// Fields that kubectl knows and a link must not use, with what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("exec", "no program is ever run; use an inline token: heliostat link writes one"),
    ("auth-provider", "no authentication plugin is ever used; use an inline token: heliostat link writes one"),
    ("tokenFile", "no file is ever opened; put the token itself in the field token"),
    ("certificate-authority", "no file is ever opened; put the PEM, base64-encoded, in certificate-authority-data"),
    ("client-certificate", "no file is ever opened; put the PEM, base64-encoded, in client-certificate-data"),
    ("client-key", "no file is ever opened; put the PEM, base64-encoded, in client-key-data"),
    ("insecure-skip-tls-verify", "the server is always verified; remove the field and give certificate-authority-data"),
    ("proxy-url", "no proxy is ever used; remove the field"),
    ("as", "a link never acts as somebody else; remove the field"),
    ("as-uid", "a link never acts as somebody else; remove the field"),
    ("as-groups", "a link never acts as somebody else; remove the field"),
    ("as-user-extra", "a link never acts as somebody else; remove the field"),
    ("username", "passwords are not supported by Kubernetes any more; use an inline token"),
    ("password", "passwords are not supported by Kubernetes any more; use an inline token"),
    ("extensions", "extensions have no meaning here; remove the field"),
    ("preferences", "preferences have no meaning here; remove the field"),
];

/// The texts of a kubeconfig.
pub(super) struct Document {
    pub(super) server: String,
    pub(super) server_name: Option<String>,
    pub(super) authority: String,
    pub(super) identity: Identity,
}

/// Who we are for the remote.
pub(super) enum Identity {
    Token(String),
    Certificate { chain: String, key: String },
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, CredentialsError> {
        if bytes.len() > MAX_BYTES {
            return Err(CredentialsError::TooLarge { bytes: bytes.len() });
        }
        let value = yaml(bytes)?;
        let root = Field { path: String::new(), value: &value };
        root.only(&["apiVersion", "kind", "clusters", "users", "contexts", "current-context"])?;
        root.fixed("apiVersion", "v1")?;
        root.fixed("kind", "Config")?;
        let cluster = root.single("clusters", "cluster")?;
        let user = root.single("users", "user")?;
        let context = root.single("contexts", "context")?;

        cluster.body.only(&["server", "certificate-authority-data", "tls-server-name"])?;
        user.body.only(&["token", "client-certificate-data", "client-key-data"])?;
        context.body.only(&["cluster", "user", "namespace"])?;
        root.names("current-context", context.name, "must be the name of the one context")?;
        context.body.names("cluster", cluster.name, "must be the name of the one cluster")?;
        context.body.names("user", user.name, "must be the name of the one user")?;

        Ok(Self {
            server: cluster.body.required("server", "the URL of the API server")?.to_owned(),
            server_name: cluster.body.text("tls-server-name")?.map(str::to_owned),
            authority: cluster
                .body
                .required("certificate-authority-data", "the authority that the server's certificate is verified with")?
                .to_owned(),
            identity: identity(&user.body)?,
        })
    }
}

fn identity(user: &Field<'_>) -> Result<Identity, CredentialsError> {
    let (chain, key) = (user.text("client-certificate-data")?, user.text("client-key-data")?);
    match (user.text("token")?, chain, key) {
        (Some(token), None, None) => Ok(Identity::Token(token.to_owned())),
        (None, Some(chain), Some(key)) => Ok(Identity::Certificate { chain: chain.to_owned(), key: key.to_owned() }),
        (Some(_), ..) => Err(user.not_allowed(
            "token",
            "there is a client certificate as well, and only one of them can say who we are; remove one",
        )),
        (None, Some(_), None) => Err(user.missing("client-key-data", "the key of client-certificate-data")),
        (None, None, Some(_)) => Err(user.missing("client-certificate-data", "the certificate of client-key-data")),
        (None, None, None) => {
            Err(user.missing("token", "or client-certificate-data with client-key-data: who we are for the remote"))
        }
    }
}

fn yaml(bytes: &[u8]) -> Result<Value, CredentialsError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| CredentialsError::Unreadable { line: 0, what: "it is not UTF-8 text" })?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_merge_keys: 0,
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_documents: 1,
            max_total_scalar_bytes: MAX_BYTES,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| CredentialsError::Unreadable {
        line: error.location().map_or(0, |location| location.line()),
        what: what_is_wrong(&error),
    })
}

/// In words of our own: the parser's may quote the document.
fn what_is_wrong(error: &serde_saphyr::Error) -> &'static str {
    match error {
        serde_saphyr::Error::DuplicateMappingKey { .. } => "a key is given twice; keep one",
        serde_saphyr::Error::Budget { .. } => {
            "anchors, aliases, merge keys, several documents, deep nesting and more than a thousand nodes are not allowed"
        }
        serde_saphyr::Error::MergeKeyNotAllowed { .. } => "merge keys are not allowed; write the fields out",
        serde_saphyr::Error::MultipleDocuments { .. } => "there is more than one document; keep one",
        _ => "it is not the YAML of a kubeconfig",
    }
}

/// A value and where it stands.
struct Field<'a> {
    path: String,
    value: &'a Value,
}

/// An entry of `clusters`, `users` or `contexts`.
struct Entry<'a> {
    name: &'a str,
    body: Field<'a>,
}

impl<'a> Field<'a> {
    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn missing(&self, name: &str, why: &'static str) -> CredentialsError {
        CredentialsError::Missing { field: self.at(name), why }
    }

    fn not_allowed(&self, name: &str, why: &'static str) -> CredentialsError {
        CredentialsError::NotAllowed { field: self.at(name), why }
    }

    /// An object with no other than these fields. What kubectl writes empty may be there, empty.
    fn only(&self, known: &[&str]) -> Result<(), CredentialsError> {
        let Some(fields) = self.value.as_object() else {
            return Err(CredentialsError::Invalid {
                field: self.name(),
                why: "is not a mapping of fields; write it as kubectl does",
            });
        };
        for (name, value) in fields.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let refused = REFUSED.iter().find(|(field, _)| field == name);
            match refused {
                Some(("extensions" | "preferences", _)) if is_empty(value) => {}
                Some((_, why)) => return Err(self.not_allowed(name, why)),
                None => return Err(self.not_allowed(shown(name), "nobody knows this field; remove it")),
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        if self.path.is_empty() { "the document".to_owned() } else { self.path.clone() }
    }

    /// A text; none where it is absent or null.
    fn text(&self, name: &str) -> Result<Option<&'a str>, CredentialsError> {
        match &self.value[name] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            _ => Err(CredentialsError::Invalid { field: self.at(name), why: "is not a text; put it in quotes" }),
        }
    }

    fn required(&self, name: &str, why: &'static str) -> Result<&'a str, CredentialsError> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| self.missing(name, why))
    }

    /// Absent, or this very text.
    fn fixed(&self, name: &str, value: &str) -> Result<(), CredentialsError> {
        match self.text(name)? {
            Some(text) if text != value => Err(CredentialsError::Invalid {
                field: self.at(name),
                why: "is not that of a kubeconfig (apiVersion: v1, kind: Config)",
            }),
            _ => Ok(()),
        }
    }

    fn names(&self, name: &str, target: &str, why: &'static str) -> Result<(), CredentialsError> {
        if self.required(name, why)? == target {
            Ok(())
        } else {
            Err(CredentialsError::Invalid { field: self.at(name), why })
        }
    }

    /// The one entry of a list, `{name, <body>}`.
    fn single(&self, list: &str, body: &str) -> Result<Entry<'a>, CredentialsError> {
        let entry = match &self.value[list] {
            Value::Null => return Err(self.missing(list, "there must be exactly one entry")),
            Value::Array(entries) => match entries.as_slice() {
                [] => return Err(self.missing(list, "there must be exactly one entry")),
                [entry] => entry,
                _ => {
                    return Err(CredentialsError::Invalid {
                        field: self.at(list),
                        why: "has several entries; keep the one that this link is to use",
                    });
                }
            },
            _ => {
                return Err(CredentialsError::Invalid {
                    field: self.at(list),
                    why: "is not a list; write it as kubectl does",
                });
            }
        };
        let entry = Field { path: self.at(&format!("{list}[0]")), value: entry };
        entry.only(&["name", body])?;
        let name = entry.required("name", "the name that current-context or the context refers to")?;
        if entry.value[body].is_null() {
            return Err(entry.missing(body, "it holds the fields"));
        }
        Ok(Entry { name, body: Field { path: entry.at(body), value: &entry.value[body] } })
    }
}

/// The name of a field that nobody knows, as far as it looks like a name: where a colon is missing
/// or too much, a value stands in the place of a name.
fn shown(name: &str) -> &str {
    let is_word = |c: char| c.is_ascii_alphabetic() || c == '-' || c == '_';
    if (1..=40).contains(&name.len()) && name.chars().all(is_word) { name } else { "(a name that is not shown)" }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
