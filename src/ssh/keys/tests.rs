use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use self::sshd::Sshd;
use super::*;

#[path = "../../../tests/common/sshd.rs"]
#[expect(dead_code, reason = "the fixture offers more than this file needs")]
mod sshd;

const PASSPHRASE: &str = "correct horse ☂";

/// The types and sizes that fleet supports, as `ssh-keygen -t -b` spells them.
const TYPES: [(&str, &str); 5] =
    [("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("ed25519", "256")];

#[derive(Debug)]
struct Made {
    label: String,
    path: PathBuf,
    encrypted: bool,
    /// `TYPE BASE64`, as `ssh-keygen -y` prints it.
    public_line: String,
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn keygen(path: &Path, arguments: &[&str]) {
    run(Command::new("ssh-keygen").args(["-q", "-a", "2", "-C", "né à test"]).args(arguments).arg("-f").arg(path));
}

fn public_line(path: &Path, passphrase: &str) -> String {
    let line = run(Command::new("ssh-keygen").arg("-y").args(["-P", passphrase]).arg("-f").arg(path));
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// Makes one key per type, in every form that ssh-keygen and openssl write.
fn make_all(dir: &TempDir) -> Vec<Made> {
    let mut made = Vec::new();
    for (kind, bits) in TYPES {
        let base = dir.path().join(format!("{kind}{bits}"));
        keygen(&base, &["-t", kind, "-b", bits, "-N", ""]);
        let line = public_line(&base, "");
        let mut add = |form: &str, encrypted: bool, write: &dyn Fn(&Path)| {
            let path = base.with_extension(form);
            write(&path);
            made.push(Made { label: format!("{kind}{bits} {form}"), path, encrypted, public_line: line.clone() });
        };
        let rewrite = |path: &Path, arguments: &[&str]| {
            fs::copy(&base, path).unwrap();
            keygen(path, &[&["-p", "-P", ""], arguments].concat());
        };
        add("openssh", false, &|path| rewrite(path, &["-N", ""]));
        add("openssh-encrypted", true, &|path| rewrite(path, &["-N", PASSPHRASE]));
        for cipher in [
            "aes128-cbc",
            "aes192-cbc",
            "aes256-cbc",
            "aes128-ctr",
            "aes192-ctr",
            "aes256-ctr",
            "aes128-gcm@openssh.com",
            "aes256-gcm@openssh.com",
            "chacha20-poly1305@openssh.com",
        ] {
            add(cipher, true, &|path| rewrite(path, &["-N", PASSPHRASE, "-Z", cipher]));
        }
        let pkcs8 = |path: &Path, arguments: &[&str]| {
            let pem = PKey::private_key_from_pem(
                read_key(&Identity::File(base.clone()), None).unwrap().private_pem.as_bytes(),
            );
            let source = path.with_extension("source");
            fs::write(&source, pem.unwrap().private_key_to_pem_pkcs8().unwrap()).unwrap();
            run(Command::new("openssl")
                .arg("pkcs8")
                .arg("-topk8")
                .args(arguments)
                .arg("-in")
                .arg(&source)
                .arg("-out")
                .arg(path));
        };
        let pass = format!("pass:{PASSPHRASE}");
        add("pkcs8", false, &|path| pkcs8(path, &["-nocrypt"]));
        add("pkcs8-pbes2", true, &|path| pkcs8(path, &["-passout", &pass, "-v2", "aes-256-cbc"]));
        add("pkcs8-scrypt", true, &|path| pkcs8(path, &["-passout", &pass, "-scrypt", "-scrypt_N", "16"]));
        if kind != "ed25519" {
            add("pem", false, &|path| rewrite(path, &["-N", "", "-m", "PEM"]));
            add("pem-encrypted", true, &|path| rewrite(path, &["-N", PASSPHRASE, "-m", "PEM"]));
            add("keygen-pkcs8", false, &|path| rewrite(path, &["-N", "", "-m", "PKCS8"]));
            add("keygen-pkcs8-encrypted", true, &|path| rewrite(path, &["-N", PASSPHRASE, "-m", "PKCS8"]));
        }
    }
    made
}

fn load(made: &Made) -> Arc<PrivateKey> {
    let passphrase = made.encrypted.then(|| Secret::from(PASSPHRASE));
    KeyStore::default()
        .load(&Identity::File(made.path.clone()), passphrase.as_ref())
        .unwrap_or_else(|error| panic!("{}: {error:?}", made.label))
}

/// Logs in as libssh2 does from memory.
fn log_in(sshd: &Sshd, key: &PrivateKey) -> Result<(), ssh2::Error> {
    let mut session = ssh2::Session::new().unwrap();
    session.set_tcp_stream(TcpStream::connect(("127.0.0.1", sshd.port())).unwrap());
    session.set_timeout(20_000);
    session.handshake().unwrap();
    session.userauth_pubkey_memory(&sshd.user(), Some(key.public_line()), key.private_pem(), None)
}

#[test]
fn every_form_of_every_type_is_read_and_logs_in() {
    let dir = tempfile::tempdir().unwrap();
    let made = make_all(&dir);
    let mut lines = made.iter().map(|key| key.public_line.clone()).collect::<Vec<_>>();
    lines.dedup();
    let sshd = Sshd::builder().authorized_keys(&lines.join("\n")).start();
    let mut forms = std::collections::HashSet::new();
    for key in &made {
        let loaded = load(key);
        assert_eq!(loaded.public_line(), key.public_line, "{}", key.label);
        assert_eq!(needs_passphrase(&key.path).unwrap(), key.encrypted, "{}", key.label);
        let header = loaded.private_pem().lines().next().unwrap();
        let expected = match loaded.key_type() {
            "ssh-rsa" => "RSA PRIVATE KEY",
            "ssh-ed25519" => "PRIVATE KEY",
            _ => "EC PRIVATE KEY",
        };
        assert_eq!(header, format!("-----BEGIN {expected}-----"), "{}", key.label);
        // The same text logs in the same way: one login per distinct form.
        if forms.insert(loaded.private_pem().to_owned()) {
            log_in(&sshd, &loaded).unwrap_or_else(|error| panic!("{}: {error}\n{}", key.label, sshd.log()));
        }
    }
    assert_eq!(forms.len(), TYPES.len(), "every form of a key becomes the same text");
}

#[test]
fn fingerprints_are_as_ssh_keygen_shows_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    keygen(&path, &["-t", "ecdsa", "-N", ""]);
    let shown = run(Command::new("ssh-keygen").arg("-l").arg("-f").arg(&path));
    let key = KeyStore::default().load(&Identity::File(path), None).unwrap();
    assert_eq!(Some(crate::known_hosts::fingerprint(key.public_blob()).as_str()), shown.split_whitespace().nth(1));
    assert_eq!(key.key_type(), "ecdsa-sha2-nistp256");
    assert!(!format!("{key:?}").contains("PRIVATE KEY"));
    assert_eq!(STANDARD.encode(key.public_blob()), key.public_line().split(' ').nth(1).unwrap());
}

/// OpenSSH leaves leading zero bytes of an ECDSA number out; the `ssh-key` crate refuses such keys.
#[test]
fn an_ecdsa_number_with_a_leading_zero_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for index in 0..16 {
        let path = dir.path().join(index.to_string());
        keygen(&path, &["-t", "ecdsa", "-b", "521", "-N", ""]);
        let key = KeyStore::default().load(&Identity::File(path.clone()), None).unwrap();
        assert_eq!(key.public_line(), public_line(&path, ""));
    }
}

#[test]
fn a_key_is_found_among_other_text_and_line_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    keygen(&path, &["-t", "ed25519", "-N", ""]);
    let line = public_line(&path, "");
    let text = fs::read_to_string(&path).unwrap();
    let narrow = text.replace("-----\n", "-----@").replace('\n', "").replace('@', "\n");
    let pem = load_text(&text).unwrap().private_pem().to_owned();
    let variants = [
        text.replace('\n', "\r\n"),
        format!("\u{feff}# my key\n{text}\nmore"),
        narrow,
        text.trim_end().to_owned(),
        format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{pem}"),
        format!("\u{feff}Bag Attributes\n    friendlyName: x\n{pem}").replace('\n', "\r\n"),
    ];
    for variant in variants {
        assert_eq!(load_text(&variant).unwrap_or_else(|error| panic!("{error:?}: {variant}")).public_line(), line);
    }
}

fn load_text(text: &str) -> Result<Arc<PrivateKey>> {
    KeyStore::default().load(&Identity::Memory(Secret::from(text)), None)
}

#[test]
fn a_missing_or_wrong_passphrase_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for (name, arguments) in [
        ("a", ["-t", "ed25519", "-m", "RFC4716"]),
        ("b", ["-t", "ecdsa", "-m", "PEM"]),
        ("c", ["-t", "ecdsa", "-m", "PKCS8"]),
    ] {
        let path = dir.path().join(name);
        keygen(&path, &[&arguments[..], &["-N", PASSPHRASE]].concat());
        let store = KeyStore::default();
        let identity = Identity::File(path.clone());
        let error = store.load(&identity, None).unwrap_err();
        assert_eq!(error.to_string(), format!("key {} is encrypted and no passphrase was given", path.display()));
        assert_eq!(error.kind(), ErrorKind::Usage);
        for wrong in ["wrong", "", &"long".repeat(1000)] {
            let error = store.load(&identity, Some(&Secret::from(wrong))).unwrap_err();
            assert_eq!(error.to_string(), format!("wrong passphrase for key {}", path.display()), "{name} {wrong}");
            assert_eq!(error.kind(), ErrorKind::Usage);
        }
        store.load(&identity, Some(&Secret::from(PASSPHRASE))).unwrap();
    }
}

#[test]
fn what_is_no_usable_key_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let missing = KeyStore::default().load(&Identity::File(path.clone()), None).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::LocalFile);
    assert_eq!(missing.chain(), format!("cannot read key {}: No such file or directory (os error 2)", path.display()));
    assert_eq!(needs_passphrase(&path).unwrap_err().to_string(), missing.to_string());
    assert_eq!(needs_passphrase(dir.path()).unwrap_err().kind(), ErrorKind::LocalFile);

    keygen(&path, &["-t", "ed25519", "-N", ""]);
    let public = fs::read_to_string(path.with_extension("pub")).unwrap();
    let private = fs::read_to_string(&path).unwrap();
    let middle: String = private.chars().enumerate().map(|(at, c)| if at == 175 { flip(c) } else { c }).collect();
    let dsa = run(Command::new("openssl")
        .args(["genpkey", "-genparam", "-algorithm", "DSA"])
        .args(["-pkeyopt", "dsa_paramgen_bits:1024"]));
    fs::write(dir.path().join("dsa"), dsa).unwrap();
    let dsa = run(Command::new("openssl").args(["genpkey", "-paramfile"]).arg(dir.path().join("dsa")));
    let curve =
        run(Command::new("openssl").args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"]));
    for (text, expected) in [
        (String::new(), "key given as text is not a private key"),
        ("hello\n".to_owned(), "key given as text is not a private key"),
        (public, "key given as text is a public key, not a private one"),
        (
            "PuTTY-User-Key-File-3: ssh-ed25519".to_owned(),
            "key given as text is in PuTTY's form, which is not supported",
        ),
        (dsa, "key given as text is of type DSA, which is not supported"),
        (curve, "key given as text is on the curve secp256k1, which is not supported"),
        (security_key(), "key given as text is of type sk-ssh-ed25519@openssh.com, which is not supported"),
        (private.lines().take(4).collect(), "key given as text is damaged"),
        (middle, "key given as text is damaged"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(), "key given as text is damaged"),
    ] {
        let error = load_text(&text).unwrap_err();
        assert_eq!(error.to_string(), expected, "{error:?}: {text}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}

fn flip(character: char) -> char {
    if character == 'A' { 'B' } else { 'A' }
}

/// The start of a key that sits on a FIDO token: only its type matters.
fn security_key() -> String {
    let name = b"sk-ssh-ed25519@openssh.com";
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let blob = string(name);
    let bytes = [
        &b"openssh-key-v1\0"[..],
        &string(b"aes256-ctr"),
        &string(b"bcrypt"),
        &string(b""),
        &1u32.to_be_bytes(),
        &string(&blob),
        &string(b""),
    ]
    .concat();
    format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n", STANDARD.encode(bytes))
}

#[test]
fn one_key_is_read_once_for_all_callers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    keygen(&path, &["-t", "ed25519", "-N", PASSPHRASE, "-a", "16"]);
    let store = KeyStore::default();
    let passphrase = Secret::from(PASSPHRASE);
    let first = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let key = store.load(&Identity::File(path.clone()), Some(&passphrase)).unwrap();
                let address = Arc::as_ptr(&key).addr();
                let before = first.compare_exchange(0, address, Ordering::SeqCst, Ordering::SeqCst);
                assert!(before.is_ok() || before == Err(address));
            });
        }
    });
    fs::remove_file(&path).unwrap();
    store.load(&Identity::File(path), Some(&passphrase)).unwrap();
}

proptest::proptest! {
    #[test]
    fn nothing_makes_the_reader_panic(bytes: Vec<u8>, cut in 0usize..500, at in 0usize..500, byte: u8) {
        let _ = parse(&bytes, None);
        let mut blob = [&b"openssh-key-v1\0"[..], &bytes].concat();
        let armor = |bytes: &[u8]| {
            format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n", STANDARD.encode(bytes))
        };
        let _ = parse(armor(&blob).as_bytes(), Some(&Secret::from("x")));
        blob = valid_blob();
        blob.truncate(blob.len().saturating_sub(cut % 100));
        if let Some(place) = blob.get_mut(at) {
            *place = byte;
        }
        let _ = parse(armor(&blob).as_bytes(), None);
    }
}

fn valid_blob() -> Vec<u8> {
    static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
    BLOB.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        keygen(&path, &["-t", "ecdsa", "-N", ""]);
        let text = fs::read_to_string(&path).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        STANDARD.decode(body).unwrap()
    })
    .clone()
}
