use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

fn local() -> Local {
    Local { user: "ops".to_owned(), uid: 0, home: "/home/ops".into(), host_name: "desk.example".to_owned() }
}

fn parse(text: &str) -> Result<SshConfig> {
    SshConfig::parse(text, Path::new("config"), local())
}

fn find(text: &str, name: &str) -> Effective {
    parse(text).unwrap().lookup(name, &Given::default()).unwrap()
}

#[test]
fn a_value_keeps_its_line() {
    let found = find("# x\nHost a\n\n  Port=2222\n  Port 3333\nForwardAgent yes\nHost b\n  ForwardX11 yes\n", "a");
    let port = found.first(Keyword::Port).unwrap();
    assert_eq!((&*port.text, port.origin.to_string()), ("2222", "config:4".to_owned()));
    let ignored: Vec<_> = found.ignored.iter().map(|it| format!("{} {}", it.keyword, it.origin)).collect();
    assert_eq!(ignored, ["forwardagent config:6"]);
    assert_eq!(found.keywords().collect::<Vec<_>>(), [Keyword::Port]);
}

#[test]
fn tokens_are_expanded() {
    let text = "HostName %h.Example\nPort 2022\nUser www\nHostKeyAlias KEY\nIdentityFile ~/k/%n-%h-%p-%r-%u-%d-%L-%l-%i-%k-%%\n\
                IdentityFile /k/${HOME}\nProxyCommand nc %h %p # %%\nIdentityAgent ~/%C";
    let found = find(text, "Web");
    assert_eq!(found.address, "web.example");
    let home = std::env::var("HOME").unwrap();
    let keys: Vec<_> = found.all(Keyword::IdentityFile).iter().map(|key| &*key.text).collect();
    let first = "/home/ops/k/Web-web.example-2022-www-ops-/home/ops-desk-desk.example-0-key-%";
    assert_eq!(keys, [first, &format!("/k/{home}")]);
    assert_eq!(found.first(Keyword::ProxyCommand).unwrap().text, "nc web.example 2022 # %");
    assert_eq!(found.first(Keyword::IdentityAgent).unwrap().text.len(), "/home/ops/".len() + 40);
}

#[test]
fn what_is_given_counts_for_match_and_tokens() {
    let config =
        parse("Match user root host 10.*\n  IdentityFile /k/%r@%h:%p\nUser www\nPort 1\nHostName other").unwrap();
    let given = Given { user: Some("root"), port: Some(22), host_name: Some("10.0.0.1"), exec: None };
    let found = config.lookup("a", &given).unwrap();
    assert_eq!(found.first(Keyword::IdentityFile).unwrap().text, "/k/root@10.0.0.1:22");
    assert_eq!(found.keywords().collect::<Vec<_>>(), [Keyword::IdentityFile]);
}

#[test]
fn tags_are_matched_and_the_first_one_holds() {
    let text = "Host web*\n  Tag front,end\nHost *\n  Tag other\nMatch tagged fr*\n  Port 1\nMatch !tagged fr*\n  Port 2\n\
                Match tagged x,oth?r\n  User ops\n";
    assert_eq!(find(text, "web1").port(), Some(1));
    let found = find(text, "db1");
    assert_eq!((found.port(), &*found.first(Keyword::User).unwrap().text), (Some(2), "ops"));
    assert!(found.warnings.is_empty() && found.ignored.is_empty());
    assert_eq!(find("Match tagged *\n  Port 1\n", "a").port(), None);
}

#[test]
fn the_bastion_is_a_token() {
    for (jump, host) in [("", ""), ("none", ""), ("u@one:22,v@two:23", "two"), ("[fe80::1]:22", "fe80::1")] {
        let jump = if jump.is_empty() { String::new() } else { format!("ProxyJump {jump}\n") };
        let found = find(&format!("{jump}IdentityFile /k/%j.key\n"), "a");
        assert_eq!(found.first(Keyword::IdentityFile).unwrap().text, format!("/k/{host}.key"));
    }
}

#[test]
fn what_is_included_may_depend_on_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let local = Local { host_name: "desk.example".to_owned(), uid: nix::unistd::getuid().as_raw(), ..local() };
    fs::write(dir.path().join("desk"), "Port 7\n").unwrap();
    let include = |name: &str| SshConfig::parse(&format!("Include {name}\n"), Path::new("config"), local.clone());
    let shown = dir.path().display();
    let found = include(&format!("{shown}/%L")).unwrap().lookup("a", &Given::default()).unwrap();
    assert_eq!(found.port(), Some(7));
    assert!(include("${HOME}/no-such-file %h").is_ok());
    let error = include("${FLEET_NOT_SET}/x").unwrap_err();
    assert_eq!(error.to_string(), "config:1: Include ${FLEET_NOT_SET}/x: variable FLEET_NOT_SET is not set");
}

#[test]
fn commands_are_run_only_if_allowed() {
    let config =
        parse("Match exec \"test %h = a\"\n  Port 1\nMatch !exec false\n  User x\nMatch sessiontype exec\n  User y\n")
            .unwrap();
    let found = config.lookup("a", &Given::default()).unwrap();
    assert_eq!(found.keywords().count(), 0);
    assert_eq!(
        found.warnings,
        [
            "config:1: Match exec is not run: its block is left out",
            "config:3: Match exec is not run: its block is left out",
            "config:5: Match sessiontype is not supported: its block is left out",
        ]
    );
    let exec = |command: &str| command == "test a = a";
    let found = config.lookup("a", &Given { exec: Some(&exec), ..Given::default() }).unwrap();
    assert_eq!((found.port(), &*found.first(Keyword::User).unwrap().text), (Some(1), "x"));
}

#[test]
fn malformed_lines_are_named() {
    for (text, message) in [
        ("Port", "config:1: port needs an argument"),
        ("\nPort # 22", "config:2: Port needs an argument"),
        ("Port 0", "config:1: \"0\" is no port: expected 1 to 65535"),
        ("Port 22 23", "config:1: Port takes one argument: \"23\" is one too many"),
        ("User \"x", "config:1: a quote is not closed"),
        ("Host a\n IdentitiesOnly maybe", "config:2: IdentitiesOnly: \"maybe\" is not one of yes, true, no, false"),
        ("ConnectTimeout 5y", "config:1: ConnectTimeout: \"5y\" is no time"),
        ("ServerAliveCountMax -1", "config:1: ServerAliveCountMax: \"-1\" is no whole number"),
        ("Host \"\"", "config:1: Host has an empty pattern"),
        ("Match", "config:1: match needs an argument"),
        ("Match host", "config:1: Match host needs an argument"),
        ("Match host a user b all", "config:1: Match all stands alone"),
        ("Match all host a", "config:1: Match all stands alone"),
        ("SetEnv A", "config:1: SetEnv: \"A\" is not NAME=VALUE"),
        ("UserKnownHostsFile a none", "config:1: UserKnownHostsFile: \"none\" stands alone"),
        ("ProxyJump a,,b", "config:1: ProxyJump: \"\" is no bastion"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!((error.to_string(), error.kind()), (message.to_owned(), ErrorKind::Usage), "{text}");
    }
    for (text, message) in [
        ("HostName %x", "config:1: HostName %x: %x is not known here"),
        ("IdentityFile ${FLEET_NOT_SET}", "config:1: IdentityFile ${FLEET_NOT_SET}: variable FLEET_NOT_SET is not set"),
        (
            "IdentityFile ~nobody-at-all/x",
            "config:1: IdentityFile ~nobody-at-all/x: there is no user \"nobody-at-all\" for ~nobody-at-all/x",
        ),
        ("IdentityFile x%", "config:1: IdentityFile x%: it ends in \"%\""),
    ] {
        let error = parse(text).unwrap().lookup("a", &Given::default()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn literal_names_are_listed() {
    let config = parse("Host a b* !c d\nHost a \"e f\"\nMatch host x\n Port 1\n").unwrap();
    assert_eq!(config.names(), ["a", "d", "e f"]);
}

#[test]
fn a_home_has_its_own_configuration() {
    let home = tempfile::tempdir().unwrap();
    let local = Local { home: home.path().to_owned(), uid: nix::unistd::getuid().as_raw(), ..local() };
    SshConfig::load_default(local.clone()).unwrap();
    let ssh = home.path().join(".ssh");
    fs::create_dir(&ssh).unwrap();
    let file = ssh.join("config");
    fs::write(&file, "Include more/*.conf\nHost a\n Include a.conf ~/.ssh/tilde\n").unwrap();
    fs::create_dir(ssh.join("more")).unwrap();
    fs::write(ssh.join("more/1.conf"), "Port 1\nHost x\n").unwrap();
    fs::write(ssh.join("more/2.conf"), "Port 2\n").unwrap();
    fs::write(ssh.join("a.conf"), "User a\n").unwrap();
    fs::write(ssh.join("tilde"), "ConnectTimeout 7\n").unwrap();
    let found = SshConfig::load_default(local.clone()).unwrap().lookup("a", &Given::default()).unwrap();
    assert_eq!((found.port(), &*found.first(Keyword::User).unwrap().text), (Some(1), "a"));
    assert_eq!(found.first(Keyword::ConnectTimeout).unwrap().text, "7");

    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    let error = SshConfig::load_default(local.clone()).unwrap_err();
    let shown = file.display();
    let expected = format!("bad owner or permissions on {shown} (mode 0666): run chmod go-w {shown}");
    assert_eq!(error.to_string(), expected);
    SshConfig::load(&file, local.clone()).unwrap();
    let error = SshConfig::load(&ssh.join("none"), local.clone()).unwrap_err();
    assert!(error.to_string().ends_with("none: there is no such file"));

    fs::write(ssh.join("loop"), "Include loop\n").unwrap();
    let error = SshConfig::load(&ssh.join("loop"), local).unwrap_err();
    assert!(error.to_string().ends_with("loop:1: files include each other more than 16 deep"), "{error}");
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,80}|([ \t\"'=#!%\\\\]|Host|Match|all|host|\\*|a|\n|Port|7){0,40}", name in "\\PC{0,8}") {
        if let Ok(config) = parse(&text) {
            let _ = config.lookup(&name, &Given::default());
            config.names();
        }
    }

    #[test]
    fn values_of_every_keyword_are_read_without_a_panic(
        keyword in proptest::sample::select(Keyword::all().collect::<Vec<_>>()),
        value in "\\PC{0,20}|[ \t\"'=#!%$\\\\{}~0-9smhdwa,@:-]{0,20}",
    ) {
        if let Ok(config) = parse(&format!("{} {value}", keyword.as_str())) {
            let _ = config.lookup("a", &Given::default());
        }
    }
}

/// Compared with the real `ssh -G`.
mod sshd {
    use std::collections::HashMap;
    use std::process::{Command, Stdio};

    use super::*;

    /// Included by the corpus as `DIR/name`.
    const INCLUDED: [(&str, &str); 6] = [
        ("port", "Port 4000\n"),
        ("blocks", "User early\nHost b\n  Port 4001\nHost *\n  IdentityFile /inc/star\n"),
        ("ends-in-host", "Host nobody\n  Port 1\n"),
        ("d/1.conf", "IdentityFile /inc/1\n"),
        ("d/2.conf", "IdentityFile /inc/2\nMatch host b\n  User second\n"),
        ("d/.hidden.conf", "IdentityFile /inc/hidden\n"),
    ];

    const CORPUS: &[&str] = &[
        "",
        "# nothing\n\n   \n\t# indented\n",
        "Host a\n  HostName x.example\nHost *\n  HostName y.example\n",
        "Port 1\nHost a\nPort 2\n",
        "Host a b\n User ab\nHost !a *\n User nota\n",
        "Host * !b\n User notb\n",
        "Host !b *\n User notb\nHost b\n User b\n",
        "Host !b\n User never\n",
        "Host ?\n User one\nHost *.example\n User ex\nHost ??.*\n User two\n",
        "Host A\n User upper\nHost a\n User lower\n",
        "HOST a\n uSER x\n PORT 3\n",
        "Host=a\nUser=x\nPort = 5\nIdentityFile= /a\nCertificateFile =/c\n",
        "Host \"a\" 'b'\n User \"q\"\n IdentityFile \"/with space/key\"\n",
        "User a\\ b\nIdentityFile /x\\\\y\nHostKeyAlias \"a\\\"b\"\n",
        "User x # comment\nPort 7#\n",
        "User x # comment\nPort 7 # seven\n",
        "User x#y\nIdentityFile /a#b\n",
        "IdentityFile /1\nIdentityFile /2\nHost a\nIdentityFile /3\nIdentityFile /1\nHost *\nIdentityFile ~/4\n",
        "IdentityFile none\n",
        "Host a\n IdentityFile none\nHost *\n IdentityFile /x\n",
        "CertificateFile /c1\nCertificateFile /c2\nCertificateFile none\n",
        "IdentitiesOnly true\nIdentityAgent none\n",
        "IdentityAgent ~/agent-%h-%n-%p-%r-%u-%L-%i-%d-%%\nUser u\nPort 9\nHostName h.%h\n",
        "IdentityAgent ${HOME}/agent\nUserKnownHostsFile ${HOME}/kh %d/kh2 ~/kh-%k\nHostKeyAlias AL.ias\n",
        "IdentityAgent /a/%C\n",
        "IdentityAgent SSH_AUTH_SOCK\n",
        "UserKnownHostsFile none\nGlobalKnownHostsFile /g1 /g2\n",
        "UserKnownHostsFile /a /b\nUserKnownHostsFile /c\n",
        "UserKnownHostsFile /a none\n",
        "StrictHostKeyChecking yes\n",
        "Host a\n StrictHostKeyChecking accept-new\nHost b\n StrictHostKeyChecking off\nHost *\n StrictHostKeyChecking ask\n",
        "StrictHostKeyChecking maybe\n",
        "ProxyJump x\nProxyCommand nc %h %p\n",
        "ProxyCommand nc -x \"a b\" %h %p\nProxyJump x\n",
        "ProxyJump none\nProxyCommand nc %h\n",
        "ProxyCommand none\nProxyJump x\n",
        "Host a\n ProxyJump none\nHost *\n ProxyJump u@one:2200,two # chain\n",
        "ProxyJump a,,b\n",
        "ProxyCommand=nc %h 22\n",
        "ConnectTimeout 1m30s\nServerAliveInterval 2H\nServerAliveCountMax 0\n",
        "ConnectTimeout none\nConnectTimeout 5\n",
        "ConnectTimeout 5y\n",
        "ConnectTimeout 99999999999\n",
        "ConnectionAttempts 4\nConnectionAttempts 5\n",
        "PreferredAuthentications password,publickey\nPasswordAuthentication no\nPubkeyAuthentication unbound\n",
        "PubkeyAuthentication TRUE\nPasswordAuthentication False\n",
        "AddressFamily INET6\nBindAddress 10.0.0.1\n",
        "SetEnv A=1 \"B=2 3\"\nSetEnv C=4\n",
        "SetEnv A\n",
        "RequestTTY force\nLogLevel verbose\n",
        "RequestTTY yes\nLogLevel DEBUG2\n",
        "LogLevel loud\n",
        "Ciphers aes256-ctr\nMACs hmac-sha2-256\nKexAlgorithms curve25519-sha256\nHostKeyAlgorithms ssh-ed25519\n",
        "Ciphers +aes128-cbc\nMACs -umac*,*sha1*\nKexAlgorithms ^diffie-hellman-group16-sha512\n",
        "Ciphers -*-cbc,chacha*\nMACs ^hmac-sha2-512,hmac-sha1\nKexAlgorithms +diffie-hellman-group14-sha1\n",
        "HostKeyAlgorithms *-cert-*,ssh-*\nPubkeyAcceptedAlgorithms -*nistp*\n",
        "HostKeyAlgorithms ^rsa-*\nPubkeyAcceptedKeyTypes +ssh-rsa\n",
        "HostKeyAlgorithms -ssh-ed25519*\nPubkeyAcceptedAlgorithms ssh-ed25519,rsa-sha2-256\n",
        "Ciphers aes128-ctr,,aes256-ctr\n",
        "Ciphers +\n",
        "Host a\n MACs !hmac-sha2-256\n",
        "ChallengeResponseAuthentication no\n",
        "KbdInteractiveAuthentication no\nKbdInteractiveAuthentication yes\n",
        "KbdInteractiveAuthentication maybe\n",
        "PreferredAuthentications\n",
        "AddressFamily ipv4\n",
        "ConnectionAttempts -1\n",
        "Port 0\n",
        "Port 65536\n",
        "Port x\n",
        "Port 22 23\n",
        "Port\n",
        "Port \"\"\n",
        "User \"open\n",
        "Host nobody\n Port x\n",
        "Match all\n User all\n",
        "Match host a\n User a\nMatch !host a\n User nota\n",
        "Match host a,b !user root\n User x\nMatch user x\n Port 3\n",
        "Host a\n HostName target.example\nMatch host target.example\n Port 6\nMatch originalhost a\n User orig\n",
        "Match host *.example,!x.example\n Port 6\nHost *\n HostName %h.example\nMatch host *.example\n User ex\n",
        "Match localuser root\n Port 11\nMatch localuser !root,*\n User other\n",
        "Match user root\n Port 12\n",
        "User bob\nMatch user bob\n Port 12\n",
        "Match user bob\n Port 12\nHost *\nUser bob\n",
        "Match final host target.example\n Port 13\nHost a\n HostName target.example\n",
        "Match final\n User last\nHost a\n User first\n",
        "Match final all\n Port 14\n",
        "Match !final\n Port 15\nMatch all\n IdentityFile /k\n",
        "Match canonical\n Port 16\n",
        "Match canonical\n Port 16\nMatch final\n User f\n",
        "Match final\n User f\nHost *.example\n Port 17\nHost a\n HostName T.Example\n",
        "Match final\n HostName late.example\n IdentityFile /f\nIdentityFile /g\n",
        "Match host a user b all\n Port 1\n",
        "Match host a all\n Port 1\n",
        "Match all host a\n Port 1\n",
        "Match all # comment here\n Port 1\n",
        "Match host a # comment here\n Port 1\n",
        "Match host=a\n Port 1\n",
        "Match host \"a\" user \"root\"\n Port 1\n",
        "Match host\n Port 1\n",
        "Match HOST A\n Port 1\n",
        "Match exec \"test %h = a\"\n Port 21\nMatch host b exec false\n Port 22\nMatch !exec \"test %n = b\"\n User z\n",
        "Include DIR/port\nPort 1\n",
        "Host a\n Include DIR/port\nHost *\n Port 2\n",
        "Host a\n Include DIR/blocks\n User inside\nHost *\n Port 3\n",
        "Include DIR/ends-in-host\nPort 5\n",
        "Host b\n Include DIR/ends-in-host\n Port 5\n",
        "Include DIR/d/*.conf\n",
        "Include DIR/d/[13].conf DIR/d/?.conf DIR/missing\n",
        "Include DIR/*/2.conf\nMatch host a\n Include DIR/blocks\n",
        "Include \"DIR/port\" # comment\n",
        "Include DIR/missing DIR/port\n",
        "Include ~/.ssh/there-is-no-such-file\n",
        "Include\n",
        "HostName %h.%%.example\n",
        "HostName %n\n",
        "HostName 10.0.0.7\nMatch host 10.0.0.*\n User num\n",
        "Host 10.* fe80::*\n User ip\n",
        "\r\nHost a\r\n  User crlf\r\n",
        "\"Host\" a\n\"User\" quoted\n",
        "Host a\n\tUser\ttabs\t\n",
        "HostKeyAlias %h\n",
        "Host *,!a\n User comma\n",
        "Host a#b\n User hash\n",
        "User=\nPort 5\n",
        "Port==5\n",
    ];

    const NAMES: [&str; 5] = ["a", "b", "A", "x.example", "10.0.0.1"];

    struct Ground {
        dir: tempfile::TempDir,
        local: Local,
    }

    type Settings = HashMap<String, Vec<String>>;

    impl Ground {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("d")).unwrap();
            for (name, text) in INCLUDED {
                fs::write(dir.path().join(name), text).unwrap();
                fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o644)).unwrap();
            }
            // ssh asks the user database for the home directory, not the environment.
            let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap();
            Self { dir, local: Local { home: user.dir, ..Local::from_system() } }
        }

        fn write(&self, text: &str) -> PathBuf {
            let path = self.dir.path().join("config");
            fs::write(&path, text.replace("DIR", self.dir.path().to_str().unwrap())).unwrap();
            path
        }
    }

    /// Returns what ssh makes of a file; none if it refuses it.
    fn ssh(path: &Path, options: &[&str], name: &str) -> Option<Settings> {
        let output = Command::new("ssh")
            .args(["-G", "-F"])
            .arg(path)
            .args(options)
            .arg(name)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let mut settings = Settings::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            settings.entry(keyword.to_owned()).or_default().push(value.trim_end().to_owned());
        }
        output.status.success().then_some(settings)
    }

    /// Returns every algorithm that ssh has, a line each.
    fn known_to_ssh(keyword: Keyword) -> String {
        let output = Command::new("ssh").args(["-Q", keyword.as_str()]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns what fleet makes of it, as ssh writes it.
    fn fleet(ground: &Ground, path: &Path, given: &Given<'_>, name: &str, defaults: &Settings) -> Result<Settings> {
        let found = SshConfig::load(path, ground.local.clone())?.lookup(name, given)?;
        let mut settings = Settings::new();
        for keyword in Keyword::all() {
            let lower = keyword.as_str().to_lowercase();
            let values = found.all(keyword);
            let texts = || values.iter().map(|value| value.text.clone());
            let lines: Vec<String> = match keyword {
                Keyword::HostName => vec![found.address.clone()],
                Keyword::User if given.user.is_some() => vec![given.user.unwrap().to_owned()],
                _ if values.is_empty() => defaults.get(&lower).cloned().unwrap_or_default(),
                Keyword::ProxyCommand | Keyword::ProxyJump if values[0].raw == "none" => Vec::new(),
                Keyword::ProxyCommand | Keyword::ProxyJump | Keyword::IdentityFile | Keyword::CertificateFile => {
                    values.iter().map(|value| value.raw.clone()).collect()
                }
                Keyword::UserKnownHostsFile | Keyword::GlobalKnownHostsFile => {
                    vec![texts().collect::<Vec<_>>().join(" ")]
                }
                Keyword::StrictHostKeyChecking | Keyword::PubkeyAuthentication | Keyword::RequestTTY => {
                    let word = texts().next().unwrap();
                    vec![match &*word {
                        "yes" => "true".to_owned(),
                        "no" => "false".to_owned(),
                        _ => word,
                    }]
                }
                Keyword::KexAlgorithms
                | Keyword::HostKeyAlgorithms
                | Keyword::Ciphers
                | Keyword::MACs
                | Keyword::PubkeyAcceptedAlgorithms => {
                    let built_in: Vec<&str> = defaults[&lower][0].split(',').collect();
                    let known = known_to_ssh(keyword);
                    let known: Vec<&str> = known.lines().collect();
                    vec![algorithms::assemble(&values[0].text, &built_in, &known).join(",")]
                }
                Keyword::HostKeyAlias => texts().map(|alias| alias.to_lowercase()).collect(),
                _ => texts().collect(),
            };
            if !lines.is_empty() {
                settings.insert(lower, lines);
            }
        }
        Ok(settings)
    }

    fn shell(command: &str) -> bool {
        Command::new("sh").arg("-c").arg(command).stdin(Stdio::null()).status().unwrap().success()
    }

    fn compare(user: Option<&str>) {
        assert!(CORPUS.len() >= 40);
        let ground = Ground::new();
        let options: Vec<&str> = user.map_or(Vec::new(), |user| vec!["-l", user]);
        let mut faults = Vec::new();
        for name in NAMES {
            let defaults = ssh(Path::new("none"), &options, name).unwrap();
            for text in CORPUS {
                let path = ground.write(text);
                let given = Given { user, exec: Some(&shell), ..Given::default() };
                let ours = fleet(&ground, &path, &given, name, &defaults);
                match (ssh(&path, &options, name), ours) {
                    (None, Err(_)) => {}
                    (None, Ok(_)) => faults.push(format!("{text:?} × {name}: ssh refuses it")),
                    (Some(_), Err(error)) => faults.push(format!("{text:?} × {name}: {error}")),
                    (Some(theirs), Ok(ours)) => {
                        for keyword in Keyword::all().map(|keyword| keyword.as_str().to_lowercase()) {
                            if theirs.get(&keyword) != ours.get(&keyword) {
                                let (theirs, ours) = (theirs.get(&keyword), ours.get(&keyword));
                                faults.push(format!("{text:?} × {name}: {keyword} {theirs:?}, here {ours:?}"));
                            }
                        }
                    }
                }
            }
        }
        assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults.join("\n"));
    }

    #[test]
    fn files_mean_what_they_mean_to_ssh() {
        compare(None);
    }

    #[test]
    fn files_mean_what_they_mean_to_ssh_with_a_user() {
        compare(Some("bob"));
    }
}

#[test]
fn no_name_gets_into_a_command_that_a_shell_would_act_on() {
    let text = "Match exec \"test %r = x\"\n Port 9\nHost *\n ProxyCommand nc %h %p %% %r";
    let config = SshConfig::parse(text, Path::new("config"), Local::from_system()).unwrap();
    let never = |command: &str| panic!("{command} was run");
    let lookup = |host: &str, user: &str| {
        let given = Given { user: Some(user), port: None, host_name: None, exec: Some(&never) };
        config.lookup(host, &given).unwrap_err().to_string()
    };
    for name in [
        "x`id`",
        "$(id)",
        "a;id",
        "a|id",
        "a&id",
        "a b",
        "a'b",
        "a\"b",
        "a\nb",
        "-oProxyCommand=id",
        "a\\",
        "{a,b}",
        "a>b",
    ] {
        assert!(lookup("h", name).contains(&format!("a shell would act on %r, which is {name:?}")), "{name}");
    }
    let config = SshConfig::parse("ProxyCommand nc %h %p", Path::new("config"), Local::from_system()).unwrap();
    let lookup = |host: &str| config.lookup(host, &Given { user: None, port: None, host_name: None, exec: None });
    for name in ["a`id`", "a;id", "-x", "$(id)"] {
        let error = lookup(name).unwrap_err().to_string();
        assert_eq!(error, format!("config:1: ProxyCommand nc %h %p: a shell would act on %h, which is {name:?}"));
    }
    for name in ["web-1.example_x", "10.0.0.1", "fe80::1", "2001:db8::1"] {
        assert_eq!(lookup(name).unwrap().first(Keyword::ProxyCommand).unwrap().text, format!("nc {name} 22"));
    }
}
