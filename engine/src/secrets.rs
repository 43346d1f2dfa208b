//! Passwords and keys by reference: an option says `${env:NAME}` or `${file:NAME}`, and its value is looked up when a
//! client is opened. So no statement, manifest, plan, listing or error ever holds it.
//!
//! Whoever may create a stream may have a secret sent to a broker of their choice. So only what was meant for it can be
//! named: variables with a prefix of our own, and files of one folder.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::{Error, Result};

/// Of every variable that an option may name.
pub const VARIABLE_PREFIX: &str = "THALWEG_SECRET_";

/// A certificate with its chain is a few kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What options may name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Secrets {
    variables: Arc<BTreeMap<String, String>>,
    folder: Option<PathBuf>,
}

/// Values stay out of logs.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Whether the value of a property is for nobody's eyes.
pub fn is_secret(property: &str) -> bool {
    let property = property.to_ascii_lowercase();
    let ends = ["password", "passphrase", "key.pem", "secret", "secret_access_key", "session_token"];
    ends.iter().any(|end| property.ends_with(end)) || property == "sasl.oauthbearer.config"
}

/// Whether a property may be given by reference: no other one, for an error may say its value.
fn may_refer(property: &str) -> bool {
    is_secret(property) || property.ends_with("username") || property.ends_with("access_key_id")
}

/// What is between `${` and `}`, where that is the whole value.
pub fn reference(value: &str) -> Option<&str> {
    value.trim().strip_prefix("${")?.strip_suffix('}')
}

impl Secrets {
    /// Of the variables, those with the prefix.
    pub fn new(variables: impl Iterator<Item = (String, String)>, folder: Option<PathBuf>) -> Secrets {
        let ours = variables.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX));
        Secrets { variables: Arc::new(ours.collect()), folder }
    }

    /// Its files may be named by a path, too, where a property wants one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The properties with values in place of references.
    pub fn resolve(&self, properties: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
        let resolve = |(property, value): (&String, &String)| {
            let value = match reference(value) {
                Some(_) if !may_refer(property) => {
                    return Err(Error::Invalid(format!(
                        "a property is no secret and is said by its value. property={property:?}, value={value:?}"
                    )));
                }
                Some(reference) => self.value(reference).map_err(|reason| {
                    Error::Invalid(format!("a secret cannot be had. property={property:?}, {reason}"))
                })?,
                None => value.clone(),
            };
            Ok((property.clone(), value))
        };
        properties.iter().map(resolve).collect()
    }

    /// What a text stands for that is a reference and nothing else.
    pub fn referred(&self, text: &str) -> Result<String> {
        let named = reference(text).ok_or_else(|| "it is no reference".to_owned());
        named
            .and_then(|reference| self.value(reference))
            .map_err(|reason| Error::Invalid(format!("a secret cannot be had. {reason}")))
    }

    fn value(&self, reference: &str) -> Result<String, String> {
        match reference.split_once(':') {
            Some(("env", name)) => self.variable(name),
            Some(("file", name)) => self.file(name),
            _ => Err(format!("reference=\"${{{reference}}}\"; it is ${{env:NAME}} or ${{file:NAME}}")),
        }
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        let said = format!("variable={name:?}");
        match self.variables.get(name) {
            Some(value) => Ok(value.clone()),
            None if name.starts_with(VARIABLE_PREFIX) => {
                Err(format!("{said}; it is not in the server's environment"))
            }
            None => Err(format!("{said}; only variables that begin with {VARIABLE_PREFIX} can be named")),
        }
    }

    fn file(&self, name: &str) -> Result<String, String> {
        let said = format!("file={name:?}");
        let Some(folder) = &self.folder else { return Err(format!("{said}; there is no folder of secrets")) };
        let within = |part| matches!(part, Component::Normal(_));
        if name.is_empty() || !Path::new(name).components().all(within) {
            return Err(format!("{said}; it is a name within the folder of secrets, {}", folder.display()));
        }
        let path = folder.join(name);
        let refused = |error: std::io::Error| format!("{said}; {}: {error}", path.display());
        if std::fs::metadata(&path).map_err(refused)?.len() > FILE_BYTES_MAX {
            return Err(format!("{said}; it is larger than {FILE_BYTES_MAX} bytes"));
        }
        let text = std::fs::read_to_string(&path).map_err(refused)?;
        // Editors and `echo` end a file with a line end, and a password does not.
        Ok(text.strip_suffix('\n').map_or(text.as_str(), |text| text.trim_end_matches('\r')).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(secrets: &Secrets, value: &str) -> Result<String, String> {
        let properties = [("sasl.password".to_owned(), value.to_owned())].into();
        let resolved = secrets.resolve(&properties).map_err(|error| error.to_string())?;
        Ok(resolved["sasl.password"].clone())
    }

    fn secrets(folder: &Path) -> Secrets {
        let variables = [("THALWEG_SECRET_KAFKA", "s3cret"), ("AWS_SECRET_ACCESS_KEY", "other")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Secrets::new(variables.into_iter(), Some(folder.to_path_buf()))
    }

    #[test]
    fn references_stand_for_values() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("kafka")).unwrap();
        std::fs::write(folder.path().join("kafka/password"), "pass word\r\n").unwrap();
        let secrets = secrets(folder.path());
        assert_eq!(resolve(&secrets, "${env:THALWEG_SECRET_KAFKA}").unwrap(), "s3cret");
        assert_eq!(resolve(&secrets, "${file:kafka/password}").unwrap(), "pass word");
        assert_eq!(resolve(&secrets, "SCRAM-SHA-256").unwrap(), "SCRAM-SHA-256");
    }

    #[test]
    fn nothing_else_can_be_named() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = secrets(folder.path());
        for (value, said) in [
            ("${env:AWS_SECRET_ACCESS_KEY}", "begin with THALWEG_SECRET_"),
            ("${env:THALWEG_SECRET_KAFKI}", "not in the server's environment"),
            ("${file:../secret}", "within the folder"),
            ("${file:/etc/hostname}", "within the folder"),
            ("${file:}", "within the folder"),
            ("${file:absent}", "absent"),
            ("${vault:x}", "${env:NAME} or ${file:NAME}"),
        ] {
            let error = resolve(&secrets, value).unwrap_err();
            assert!(error.contains("property=\"sasl.password\"") && error.contains(said), "{error}");
        }
        let client = [("client.id".to_owned(), "${env:THALWEG_SECRET_KAFKA}".to_owned())].into();
        assert!(secrets.resolve(&client).unwrap_err().to_string().contains("is no secret"));
        assert!(resolve(&Secrets::default(), "${file:x}").unwrap_err().contains("no folder"));
        assert!(!format!("{secrets:?}").contains("s3cret"));
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for secret in [
            "sasl.password",
            "ssl.key.password",
            "ssl.keystore.password",
            "ssl.key.pem",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "aws_secret_access_key",
            "SECRET_ACCESS_KEY",
            "aws_session_token",
        ] {
            assert!(is_secret(secret), "{secret}");
        }
        for open in ["sasl.username", "ssl.ca.location", "ssl.ca.pem", "aws_access_key_id", "client.id"] {
            assert!(!is_secret(open), "{open}");
        }
    }
}
