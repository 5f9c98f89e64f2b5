//! Folders on disk: what is said about them, and that they are followed.

use super::*;
use std::fs;
use std::path::Path;
use std::time::Duration;
use weft_model::{Kind, ObjectKey, Spec};

/// Loads files that a test wrote, and gives the diagnostics as people see them, with file names
/// instead of paths.
fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let loaded = load(&[folder.path().to_owned()]);
    lines(&loaded.diagnostics, folder.path())
}

fn lines(diagnostics: &[Diagnostic], folder: &Path) -> Vec<String> {
    let folder = format!("{}/", folder.display());
    let line = |diagnostic: &Diagnostic| diagnostic.to_string().replace(&folder, "");
    diagnostics.iter().map(line).collect()
}

#[test]
fn what_tutorials_write_is_read_without_a_word() {
    let tutorial = include_str!("tests/tutorial.yaml");
    assert_eq!(
        findings(&[("tutorial.yaml", tutorial)]),
        Vec::<String>::new()
    );
}

/// Cut off, or with one line lost or spoilt, a file is still read, or refused, without a panic and
/// within its lines.
#[test]
fn spoilt_manifests_are_survived() {
    let tutorial = include_str!("tests/tutorial.yaml");
    let lines: Vec<_> = tutorial.lines().collect();
    let spoil: [fn(&str) -> String; 5] = [
        |_| String::new(),
        |line| format!("\t{line}"),
        |line| format!("{line}: ]"),
        |line| line.replace(':', ": 1 #"),
        |line| line.replace(['[', '{', '-'], "\u{0}"),
    ];
    for (number, line) in lines.iter().enumerate().step_by(4) {
        let spoil = spoil[number / 4 % spoil.len()];
        let (before, after) = (&lines[..number], &lines[number + 1..]);
        let text = [before, &[&spoil(line)], after].concat().join("\n");
        let cut = text
            .chars()
            .take(number * tutorial.len() / lines.len())
            .collect();
        for text in [text, cut] {
            let read = crate::read::read(&"a.yaml".into(), &text);
            let objects = read.objects.iter().flat_map(|object| object.diagnostics());
            for finding in read.findings.into_iter().chain(objects) {
                let line = finding.place.unwrap().line as usize;
                assert!((1..=text.lines().count() + 1).contains(&line));
            }
        }
    }
}

/// Every manifest in `tests/bad` has what is said about it beside it.
#[test]
fn bad_input_is_reported_with_file_line_object_and_field() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/folder/tests/bad");
    let entries = fs::read_dir(&folder).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let is_manifest = |path: &PathBuf| path.extension().is_none_or(|end| end != "expected");
    let mut files: Vec<_> = files.filter(is_manifest).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for path in files {
        let said = lines(&load(std::slice::from_ref(&path)).diagnostics, &folder).join("\n") + "\n";
        let expected = fs::read_to_string(format!("{}.expected", path.display()));
        if expected.unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("latin1.yaml"), b"name: caf\xe9\n").unwrap();
    fs::File::create(path("huge.yaml"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    fs::write(path("empty.yaml"), "").unwrap();
    fs::write(path("notes.txt"), "not read").unwrap();
    fs::write(path(".hidden.yaml"), "kind: [").unwrap();
    std::os::unix::fs::symlink(path("."), path("loop")).unwrap();
    std::os::unix::fs::symlink(path("nowhere"), path("dangling.yaml")).unwrap();
    let loaded = load(&[folder.path().to_owned(), path("absent")]);
    assert_eq!(
        lines(&loaded.diagnostics, folder.path()),
        [
            "absent: cannot be read: No such file or directory (os error 2)",
            "huge.yaml: cannot be read: 1073741824 bytes are more than 16777216",
            "latin1.yaml: cannot be read: it is not UTF-8 text",
        ]
    );
}

#[test]
fn kinds_without_use_are_listed_once() {
    let secret = |name| format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\n");
    let text = secret("a") + &secret("b") + &secret("c");
    assert_eq!(
        findings(&[("a.yaml", &text), ("b.yaml", &secret("d"))]),
        ["a.yaml:2: a mesh has no use for Secret: ignored, here and 3 times more"]
    );
}

#[test]
fn overlapping_paths_are_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, service(80)).unwrap();
    let loaded = load(&[folder.path().to_owned(), file]);
    assert!(loaded.diagnostics.is_empty());
    assert_eq!(loaded.objects.services().count(), 1);
}

fn service(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{ports: [{{port: {port}}}]}}\n"
    )
}

/// A source, and what it has handed out so far.
struct Follow {
    source: FolderSource,
    world: World,
    diagnostics: Vec<Diagnostic>,
}

impl Follow {
    async fn start(path: &Path) -> Self {
        let (source, batch) = FolderSource::open(vec![path.to_owned()]).await.unwrap();
        let mut follow = Self {
            source,
            world: World::default(),
            diagnostics: Vec::new(),
        };
        follow.take(batch);
        follow
    }

    fn take(&mut self, batch: Batch) {
        for change in batch.changes {
            self.world.apply(change);
        }
        self.diagnostics = batch.diagnostics;
    }

    /// The port of the Service `web`; 0 when there is none.
    fn port(&self) -> u16 {
        let object = self
            .world
            .object(&ObjectKey::new(Kind::Service, "default", "web"));
        match object.map(|object| &object.spec) {
            Some(Spec::Service(service)) => service.ports[0].port,
            _ => 0,
        }
    }

    /// Waits until the fact holds.
    async fn until(&mut self, fact: impl Fn(&Self) -> bool) {
        let wait = async {
            while !fact(self) {
                let batch = self.source.next().await.unwrap();
                self.take(batch);
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        assert!(waited.is_ok(), "{:?} {:?}", self.world, self.diagnostics);
    }
}

#[tokio::test]
async fn saves_renames_and_deletions_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let mut follow = Follow::start(folder.path()).await;
    assert_eq!(follow.port(), 0);

    fs::write(&file, service(80)).unwrap();
    follow.until(|follow| follow.port() == 80).await;

    // A save of the same size, at once after the last.
    fs::write(&file, service(81)).unwrap();
    follow.until(|follow| follow.port() == 81).await;

    // A bad save changes nothing and is reported; the next one is in force.
    fs::write(&file, service(82).replace("port:", "prot:")).unwrap();
    follow.until(|follow| !follow.diagnostics.is_empty()).await;
    assert_eq!(follow.port(), 81);
    fs::write(&file, "kind: [").unwrap();
    follow
        .until(|follow| follow.diagnostics[0].subject.is_none())
        .await;
    assert_eq!(follow.port(), 81);

    // Editors write beside the file and rename.
    let beside = folder.path().join(".a.yaml.swp");
    fs::write(&beside, service(83)).unwrap();
    fs::rename(&beside, &file).unwrap();
    follow
        .until(|follow| follow.port() == 83 && follow.diagnostics.is_empty())
        .await;

    fs::remove_file(&file).unwrap();
    follow.until(|follow| follow.port() == 0).await;

    let below = folder.path().join("new/deep");
    fs::create_dir_all(&below).unwrap();
    fs::write(below.join("b.yml"), service(84)).unwrap();
    follow.until(|follow| follow.port() == 84).await;
    fs::write(below.join("b.yml"), service(85)).unwrap();
    follow.until(|follow| follow.port() == 85).await;
    fs::remove_dir_all(folder.path().join("new")).unwrap();
    follow.until(|follow| follow.port() == 0).await;
}

#[tokio::test]
async fn a_single_file_is_followed_and_its_neighbours_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let beside = folder.path().join("b.yaml");
    let mut follow = Follow::start(&file).await;
    fs::write(&beside, service(80)).unwrap();
    fs::write(&file, service(81)).unwrap();
    follow.until(|follow| follow.port() == 81).await;
    fs::rename(&beside, &file).unwrap();
    follow.until(|follow| follow.port() == 80).await;
    fs::remove_file(&file).unwrap();
    follow.until(|follow| follow.port() == 0).await;
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_through_its_links() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (version, port) in [("..v1", 80), ("..v2", 81)] {
        fs::create_dir(path(version)).unwrap();
        fs::write(path(version).join("web.yaml"), service(port)).unwrap();
    }
    symlink("..v1", path("..data")).unwrap();
    symlink("..data/web.yaml", path("web.yaml")).unwrap();
    let mut follow = Follow::start(folder.path()).await;
    assert_eq!(follow.port(), 80);
    symlink("..v2", path("..data_tmp")).unwrap();
    fs::rename(path("..data_tmp"), path("..data")).unwrap();
    follow.until(|follow| follow.port() == 81).await;
}

#[tokio::test]
async fn a_folder_is_waited_for_and_may_be_replaced() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("not/yet");
    let mut follow = Follow::start(&folder).await;
    assert_eq!(follow.diagnostics.len(), 1);

    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a.yaml"), service(80)).unwrap();
    follow
        .until(|follow| follow.port() == 80 && follow.diagnostics.is_empty())
        .await;

    let other = above.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("b.yaml"), service(81)).unwrap();
    fs::rename(above.path().join("not"), above.path().join("gone")).unwrap();
    fs::create_dir(above.path().join("not")).unwrap();
    fs::rename(&other, &folder).unwrap();
    follow.until(|follow| follow.port() == 81).await;
    fs::write(folder.join("b.yaml"), service(82)).unwrap();
    follow.until(|follow| follow.port() == 82).await;
}

#[tokio::test]
async fn a_source_ends_while_nobody_takes_its_batches() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let follow = Follow::start(folder.path()).await;
    for port in 1..100 {
        fs::write(&file, service(port)).unwrap();
    }
    drop(follow);
}

#[tokio::test]
async fn a_refresh_hands_out_what_was_saved_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut follow = Follow::start(folder.path()).await;
    let refresher = follow.source.refresher();
    assert_eq!(refresher.refresh().await, Some(1));
    for port in 80..85 {
        fs::write(folder.path().join("a.yaml"), service(port)).unwrap();
        let number = refresher.refresh().await.unwrap();
        loop {
            let batch = follow.source.next().await.unwrap();
            let is_last = batch.number == number;
            follow.take(batch);
            if is_last {
                break;
            }
        }
        assert_eq!(follow.port(), port);
    }
    drop(follow);
    assert_eq!(refresher.refresh().await, None);
}
