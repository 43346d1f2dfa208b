//! Which local files a statement may name: those below some folders, wherever `..` and links lead (INV-22).
//!
//! Who may send SQL is not, for that, somebody who may read the disk of the server. What was created once is read again
//! after a restart without being asked about.

use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

#[derive(Debug, Clone)]
pub enum FilesRoots {
    Anywhere,
    /// Canonical paths.
    Below(Vec<PathBuf>),
}

impl Default for FilesRoots {
    fn default() -> Self {
        FilesRoots::Below(vec![])
    }
}

impl FilesRoots {
    pub fn below(folders: &[PathBuf]) -> Result<FilesRoots> {
        let canonical = |folder: &PathBuf| {
            let shown = folder.display();
            let wrong =
                |error| Error::Invalid(format!("no such folder of files. folder=\"{shown}\": {error}"));
            folder.canonicalize().map_err(wrong)
        };
        Ok(FilesRoots::Below(folders.iter().map(canonical).collect::<Result<_>>()?))
    }

    /// With one more, if it is there.
    pub(in crate::source) fn and(&self, folder: Option<&Path>) -> FilesRoots {
        match self {
            FilesRoots::Anywhere => FilesRoots::Anywhere,
            FilesRoots::Below(roots) => {
                let more = folder.and_then(|folder| folder.canonicalize().ok());
                FilesRoots::Below(roots.iter().cloned().chain(more).collect())
            }
        }
    }

    /// Refuses a path that leads elsewhere. It has no dots, and where it does not exist (a pattern does not), it lies where
    /// its folder does. An error is the same whatever lies there.
    pub(in crate::source) fn check(&self, path: &Path) -> Result<()> {
        let FilesRoots::Below(roots) = self else { return Ok(()) };
        let mut at = path.to_owned();
        loop {
            match at.canonicalize() {
                Ok(found) if roots.iter().any(|root| found.starts_with(root)) => return Ok(()),
                Err(error) if error.kind() == NotFound && at.pop() => {}
                _ => return Err(refusal(path, roots)),
            }
        }
    }
}

fn refusal(path: &Path, roots: &[PathBuf]) -> Error {
    let path = path.display();
    Error::Invalid(match roots {
        [] => format!(
            "this server reads no local files, for it was given no folder of them; start it with --files-root DIR. \
             path=\"{path}\""
        ),
        _ => format!(
            "the path leads out of the folders whose files this server reads; move the files, or start it with \
             --files-root DIR. path=\"{path}\", folders={roots:?}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_its_roots_or_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        for folder in [&inside, &outside] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("a.json"), "1").unwrap();
        }
        std::os::unix::fs::symlink(&outside, inside.join("leads-out")).unwrap();
        std::os::unix::fs::symlink(inside.join("a.json"), outside.join("leads-in")).unwrap();
        let roots = FilesRoots::below(std::slice::from_ref(&inside)).unwrap();
        for path in ["", "a.json", "*.json", "not/there/*"] {
            roots.check(&inside.join(path)).unwrap();
        }
        roots.check(&outside.join("leads-in")).unwrap();
        for path in ["leads-out", "leads-out/a.json", "leads-out/*.json", "leads-out/nothing"] {
            let error = roots.check(&inside.join(path)).unwrap_err().to_string();
            assert!(error.contains("leads out of the folders"), "{error}");
        }
        for path in [outside.join("a.json"), outside.join("nothing"), "/".into(), folder.path().join("in2")] {
            roots.check(&path).unwrap_err();
        }
        let none = FilesRoots::default().check(&inside.join("a.json")).unwrap_err().to_string();
        assert!(none.contains("start it with --files-root"), "{none}");
        FilesRoots::Anywhere.check(&outside).unwrap();
        assert!(FilesRoots::below(&[folder.path().join("none")]).is_err());
    }
}
