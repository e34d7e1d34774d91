//! What is said word by word: here without contacting anything, in `others` for inventories in other forms, in `runs` and `trust` by simulated hosts.

mod folds;
mod forms;
mod others;
mod runs;
mod trust;

use super::Fleet;

const INVENTORY: &str = r#"
[defaults]
user = "ops"

[groups.web]
hosts = ["web[01-20].example"]
vars = { role = "frontend", weight = 3 }

[groups.prod]
children = ["web", "db"]

[groups.db]

[hosts.db1]
address = "10.0.0.5"
port = 2222
groups = ["db"]

[hosts.v6]
address = "2001:db8::5"
user = "root"
"#;

fn fleet() -> Fleet {
    Fleet::new().file("hosts.toml", INVENTORY)
}

#[test]
fn help() {
    let fleet = Fleet::new().run(&[]).run(&["--help"]).run(&["help"]).run(&["help", "ping"]);
    fleet.golden("help");
    for verb in ["exec", "script", "put", "get", "copy-id", "hosts", "trust", "completions", "man"] {
        Fleet::new().run(&[verb, "--help"]).golden(&format!("help_{verb}"));
    }
}

#[test]
fn wrong_verbs() {
    Fleet::new()
        .run(&["df", "-h", "/srv/a b"])
        .run(&["exce", "uptime"])
        .run(&["-w", "web01", "exec", "df"])
        .run(&["-i", "hosts.toml", "df", "-h"])
        .run(&["-g", "web", "--max-fail=3", "exce", "df"])
        .run(&["-Z", "exec", "df"])
        .run(&["run", "-w", "web01", "df"])
        .run(&["upload", "a", "/b"])
        .run(&["list"])
        .run(&["version"])
        .run(&["--versoin"])
        .run(&["--list-hosts"])
        .run(&["uptime"])
        .run(&["ptu", "a", "/b"])
        .run(&["help", "nothing"])
        .run(&["-w", "hosts1", "uptime"])
        .run(&["-w", "web01", "-c", "file"])
        .run(&["-B", "-w", "web01", "df"])
        .golden("wrong_verbs");
}

#[test]
fn wrong_flags() {
    fleet()
        .run(&["exec"])
        .run(&["exec", "-w", "web[01-03].example", "-f", "2"])
        .run(&["exec", ""])
        .run(&["exec", "--max-fial", "3", "df"])
        .run(&["exec", "-Z", "df", "df"])
        .run(&["exec", "--max-fail", "many", "df"])
        .run(&["exec", "--max-fail", "101%", "df"])
        .run(&["exec", "--format", "xml", "df"])
        .run(&["exec", "--fail-fast", "--max-fail", "3", "df"])
        .run(&["exec", "-q", "-v", "df"])
        .run(&["exec", "-f", "0", "df"])
        .run(&["exec", "-p", "70000", "df"])
        .run(&["exec", "-l", "", "df"])
        .run(&["exec", "-t", "0", "df"])
        .run(&["exec", "-u", "soon", "df"])
        .run(&["exec", "--host-key", "maybe", "df"])
        .run(&["exec", "--order", "size", "df"])
        .run(&["exec", "-N", "--format", "json", "df"])
        .run(&["exec", "-N", "--format", "csv", "df"])
        .run(&["trust", "--format", "jsonl"])
        .run(&["ping", "-N"])
        .run(&["ping", "-u", "3"])
        .run(&["put", "-w", "db1", "only-one"])
        .run(&["put", "-w", "db1"])
        .run(&["get", "-w", "db1"])
        .run(&["ping", "now"])
        .run(&["hosts", "--fold", "--count"])
        .golden("wrong_flags");
}

#[test]
fn manual_pages_are_sound() {
    let fleet = Fleet::new();
    let output = fleet.output(&["man", "man1"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "fleet: 11 manual pages are in man1\n");
    let mut files: Vec<_> =
        std::fs::read_dir(fleet.dir().join("man1")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 11);
    let lint =
        std::process::Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).args(&files).output().unwrap();
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    assert_eq!(fleet.output(&["man"]).stdout, std::fs::read(fleet.dir().join("man1/fleet.1")).unwrap());
}

#[test]
fn flags_of_other_tools() {
    fleet()
        .run(&["exec", "--limit", "web", "-m", "shell", "df"])
        .run(&["exec", "--list-hosts", "df"])
        .run(&["exec", "--par=20", "df"])
        .run(&["exec", "-k", "df"])
        .run(&["exec", "-o", "StrictHostKeyChecking=no", "df"])
        .run(&["exec", "-m", "shell", "-a", "df"])
        .run(&["exec", "--rcopy", "/etc/motd"])
        .run(&["exec", "--private-key", "key", "df"])
        .run(&["ping", "--extra-vars", "a=b"])
        .run(&["exec", "-X", "web", "df"])
        .run(&["exec", "-R", "ssh", "df"])
        .run(&["exec", "-u", "root", "df"])
        .run(&["exec", "--become", "df"])
        .run(&["all", "-m", "ping"])
        .run(&["web", "-m", "shell", "-a", "df -h"])
        .run(&["web[01-03].example,db1", "df", "-h"])
        .run(&["ssh", "ops@db1", "df"])
        .run(&["scp", "motd", "db1:/etc/motd"])
        .run(&["put", "motd", "ops@db1:"])
        .run(&["get", "db1:/etc/motd", "."])
        .run(&["get", "/etc/motd"])
        .run(&["ping", "db1", "db2", "-v"])
        .run(&["exec", "-w", "^hosts", "df"])
        .run(&["exec", "-w", "web*,/example/", "df"])
        .run(&["exec", "-w", "@web,-web01.example", "df"])
        .run(&["exec", "-H", "db1 db2", "df"])
        .golden("other_tools");
}

#[test]
fn a_password_is_no_argument_and_never_shown() {
    fleet()
        .run(&["ping", "--password-from", "hunter2"])
        .run(&["ping", "--password-from", "env:NOT_SET", "-w", "db1"])
        .run(&["ping", "--password", "hunter2"])
        .golden("password");
}

#[test]
fn the_environment_stands_below_flags() {
    fleet()
        .env("FLEET_HOSTS", "db1")
        .env("FLEET_MAX_FAIL", "nonsense")
        .run(&["hosts"])
        .run(&["hosts", "-a", "--count"])
        .run(&["hosts", "-g", "web", "--fold"])
        .run(&["ping", "--dry-run"])
        .run(&["ping", "--dry-run", "--fail-fast"])
        .env("FLEET_DRY_RUN", "1")
        .env("FLEET_MAX_FAIL", "10%")
        .env("FLEET_USER", "somebody")
        .run(&["ping"])
        .run(&["ping", "-l", "root"])
        .golden("environment");
}

#[test]
fn inventories() {
    Fleet::new()
        .run(&["exec", "df"])
        .run(&["exec", "-i", "missing.toml", "df"])
        .file("broken.toml", "[groups.web\nhosts = 1\n")
        .run(&["hosts", "-i", "broken.toml"])
        .file("unknown.toml", "[defaults]\nusr = \"ops\"\n[hosts.a]\n")
        .run(&["hosts", "-i", "unknown.toml"])
        .file("empty.toml", "")
        .run(&["hosts", "-i", "empty.toml"])
        .golden("inventories");
}

#[test]
fn lists() {
    fleet()
        .file("web.txt", "# the old ones\nweb[01-03].example  db1 # and this\n\n@web&web05.example\n")
        .file("wrong.txt", "db1\n\nweb01.example ! (\n")
        .file("unknown.txt", "db1\nbd1\n")
        .file("empty.txt", "# nobody\n")
        .file("loop.txt", "@file:again.txt\n")
        .file("again.txt", "db1\n@file:loop.txt\n")
        .run(&["hosts", "-f", "-w", "@file:web.txt"])
        .run(&["hosts", "-f", "-w", "@web", "-x", "@file:web.txt"])
        .run(&["hosts", "-f", "-w", "@file:web.txt:&web"])
        .run(&["hosts", "-c", "-x", "@file:empty.txt"])
        .run(&["hosts", "-w", "-"])
        .run(&["hosts", "-w", "@file:wrong.txt"])
        .run(&["hosts", "-w", "@file:unknown.txt"])
        .run(&["hosts", "-w", "@file:empty.txt"])
        .run(&["hosts", "-w", "@file:loop.txt"])
        .run(&["hosts", "-w", "@file:missing.txt"])
        .run(&["hosts", "-w", "db1,@file:"])
        .stdin("web.txt")
        .run(&["hosts", "-f", "-w", "-"])
        .run(&["hosts", "-f", "-w", "v6,-!(-&@db)"])
        .run(&["exec", "--stdin", "-", "-w", "-", "cat"])
        .run(&["script", "-w", "-", "-"])
        .golden("lists");
}

#[test]
fn parts() {
    fleet()
        .run(&["hosts", "-e", "--slice", ":2"])
        .run(&["hosts", "-e", "--slice", "-2:"])
        .run(&["hosts", "-e", "--slice", "-1"])
        .run(&["hosts", "-e", "--slice", "::7", "-x", "@db"])
        .run(&["hosts", "-e", "--slice", "40:"])
        .run(&["hosts", "-e", "--slice", "one"])
        .run(&["hosts", "-e", "--pick", "3", "--seed", "7"])
        .run(&["hosts", "-e", "--pick", "3", "--seed", "7", "--slice", "10:"])
        .run(&["hosts", "-c", "--pick", "99", "--seed", "7"])
        .run(&["hosts", "--pick", "0"])
        .run(&["hosts", "--seed", "7"])
        .run(&["ping", "--dry-run", "--pick", "1", "--seed", "7"])
        .golden("parts");
}

#[test]
fn a_choice_at_random_says_how_to_repeat_it() {
    let fleet = fleet();
    let first = fleet.output(&["hosts", "--pick", "5"]);
    let said = String::from_utf8(first.stderr).unwrap();
    let flags: Vec<&str> = said.trim_start_matches("fleet: ").split(' ').take(4).collect();
    assert_eq!(said, format!("fleet: {} picks the same again\n", flags.join(" ")));
    let again = fleet.output(&[&["hosts"], &*flags].concat());
    assert_eq!((again.stdout, again.stderr), (first.stdout, Vec::new()));
    let quiet = fleet.output(&["ping", "--dry-run", "-q", "--pick", "1"]);
    assert!(!String::from_utf8(quiet.stderr).unwrap().contains("seed"));
}

#[test]
fn forms_of_hosts() {
    fleet()
        .run(&["hosts", "-w", "a[1-10]!a5", "-f"])
        .run(&["hosts", "-i", "none", "-w", "a[1-10]!a5", "-f"])
        .run(&["hosts", "-w", "@prod", "-e"])
        .run(&["hosts", "-w", "@prod&*[18-20]*", "-e", "-S", ","])
        .run(&["hosts", "-S", ","])
        .run(&["hosts", "-e", "-f"])
        .run(&["hosts", "-w", "@*", "-c"])
        .run(&["hosts", "-w", "@all!v6", "-c"])
        .run(&["hosts", "-w", "vars.role=frontend", "-f"])
        .run(&["hosts", "-w", "*!vars.weight=3", "-f"])
        .run(&["hosts", "-w", "vars.role=back*"])
        .run(&["hosts", "-w", "vars.rol=frontend"])
        .run(&["hosts", "-w", "db1,vars.=x"])
        .run(&["hosts", "--groups"])
        .run(&["hosts", "--groups", "-w", "db1"])
        .run(&["hosts", "--groups", "--format", "json", "-w", "db1,web[01-02].example"])
        .golden("forms_of_hosts");
    Fleet::new()
        .run(&["hosts", "-w", "a[1-10]!a5", "-f"])
        .run(&["hosts", "-w", "a[1-4]^a[3-6],(b1,b2)&b[2-3]", "-e"])
        .run(&["hosts", "-w", "rack[1-3]n[01-04]!rack2n[01-04]", "-f"])
        .run(&["hosts", "-w", "n[01-100/33]", "-e"])
        .run(&["hosts", "-w", "n[0-99999999]", "-c"])
        .run(&["hosts", "-w", "@web", "-c"])
        .golden("forms_of_hosts_alone");
}

#[test]
fn selections() {
    fleet()
        .run(&["hosts"])
        .run(&["hosts", "--fold"])
        .run(&["hosts", "--count"])
        .run(&["hosts", "--groups"])
        .run(&["hosts", "-w", "@prod!web[03-20].example", "-v"])
        .run(&["hosts", "-w", "v6,db1", "--format", "json"])
        .run(&["hosts", "-w", "web02.example", "--format", "json"])
        .run(&["hosts", "-w", "v6,web02.example", "--format", "jsonl"])
        .run(&["hosts", "-w", "v6,web02.example,db1", "--format", "csv"])
        .run(&["hosts", "-w", "root@10.9.9.9:2200", "-v"])
        .run(&["hosts", "-g", "web", "-x", "@web"])
        .run(&["hosts", "-w", "nope"])
        .run(&["hosts", "-w", "web[01-"])
        .run(&["hosts", "-g", "wbe"])
        .run(&["hosts", "-a", "-w", "db1"])
        .golden("selections");
}

#[test]
fn wrong_selections() {
    let mut fleet = fleet();
    for text in [
        "",
        " ",
        "web[1-",
        "@",
        "@nosuch",
        "db1!",
        "!db1",
        "(db1,v6",
        "db1)",
        "~/[/",
        "~x",
        "a:b:80",
        "::1",
        "db1:99999",
        "user@",
        "db1,,v6",
        "db1 v6",
        "web[]",
        "web[9-1]",
        "x[1-99999999999]",
        "vars.role=",
        "@file:",
        "dbé",
        "*q*",
    ] {
        fleet = fleet.run(&["hosts", "-w", text]);
    }
    fleet
        .run(&["hosts", "-x", ""])
        .run(&["hosts", "-g", ""])
        .run(&["hosts", "-w", "db1", "-x", "db*"])
        .run(&["hosts", "--pick", "0"])
        .run(&["hosts", "--pick", "x"])
        .run(&["hosts", "--slice", "x"])
        .golden("wrong_selections");
}

#[test]
fn a_flag_behind_the_command_is_the_commands() {
    Fleet::new()
        .file("hosts.toml", "[groups.db]\nhosts = [\"db1\"]\n[hosts.v6]\n")
        .run(&["exec", "--dry-run", "df", "-w", "db1"])
        .run(&["exec", "--dry-run", "df", "-h", "-g", "web"])
        .run(&["exec", "--dry-run", "df", "-g", "db"])
        .run(&["exec", "--dry-run", "grep", "-w", "nobody"])
        .run(&["exec", "--dry-run", "-w", "v6", "df", "-w", "db1"])
        .run(&["exec", "--dry-run", "-q", "df", "-x", "db1"])
        .run(&["exec", "--dry-run", "--", "df", "-x", "db1"])
        .run(&["exec", "--dry-run", "df", "-i", "prod.toml"])
        .golden("flags_of_commands");
}

#[test]
fn a_dry_run_contacts_nothing() {
    fleet()
        .file("site/index.html", "x")
        .run(&["exec", "--dry-run", "-g", "db", "df", "-h", "--", "-x"])
        .run(&["exec", "--dry-run", "-w", "v6", "-f", "3", "-l", "me", "-p", "22", "--format", "json", "df", "|", "wc"])
        .run(&["exec", "--dry-run", "-w", "v6", "--format", "jsonl", "df"])
        .run(&["exec", "--dry-run", "-w", "v6,db1", "--format", "csv", "echo \"a\", b"])
        .run(&["put", "--dry-run", "-w", "db1", "site", "hosts.toml", "/srv/"])
        .run(&["get", "--dry-run", "-q", "-w", "db1", "/etc/motd", "out/here"])
        .run(&["ping", "--dry-run", "--order", "name", "-w", "v6,db1", "-A"])
        .golden("dry_run");
}

#[test]
fn what_a_command_finds_is_shown_and_checked_first() {
    let long = format!("A={}", "x".repeat(20_000));
    let exec = |args: &[&'static str]| [&["exec", "--dry-run", "-w"], args].concat();
    fleet()
        .run(&exec(&["db1", "--env", "A=it's live", "--env", "B=", "--cwd", "~/app", "./run", "-x"]))
        .run(&exec(&["web[19-20].example", "--export-host", "env | grep FLEET_"]))
        .run(&exec(&[
            "db1,v6",
            "--template",
            "echo {{host}} {{address}}:{{port}} '{{user}}' {{index}}/{{total}} {{groups}}",
        ]))
        .run(&exec(&[
            "db1",
            "--template",
            "--env",
            "ROLE=of {{host}}",
            "--cwd",
            "/srv/{{host}}",
            "--format",
            "json",
            "ls",
        ]))
        .run(&exec(&["@web,db1", "--template", "echo {{vars.role}}"]))
        .run(&exec(&["db1", "--template", "echo {{hots}}"]))
        .run(&exec(&["db1", "--template", "echo {{host"]))
        .run(&exec(&["db1", "--env", "A", "df"]))
        .run(&exec(&["db1", "--env", "A-B=1", "df"]))
        .run(&exec(&["db1", "--pty", "--stdin", "-", "df"]))
        .golden("context");
    let output = fleet().output(&["exec", "-w", "db1", "--env", &long, "df"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.starts_with("fleet: the command of db1 has 40059 bytes, more than the 34000 that SSH carries\nhint: "),
        "{said}"
    );
}

#[test]
fn a_script_is_read_and_shown_first() {
    fleet()
        .file("deploy.sh", "#!/bin/bash -e\necho\n")
        .file("plain", "echo\n")
        .file("dos.sh", "#!/bin/sh\r\necho\r\n")
        .run(&[
            "script",
            "--dry-run",
            "-w",
            "db1,v6",
            "--template",
            "deploy.sh",
            "-x",
            "--to",
            "it's {{host}}",
            "{{vars.x}}",
        ])
        .run(&["script", "--dry-run", "-w", "db1,v6", "--template", "deploy.sh", "-x", "--to", "it's {{host}}"])
        .run(&["script", "--dry-run", "-w", "db1", "--env", "A=1", "--format", "json", "plain"])
        .run(&["script", "--dry-run", "-w", "db1", "-", "a"])
        .run(&["script", "-w", "db1", "missing.sh"])
        .run(&["script", "-w", "db1", "dos.sh"])
        .run(&["script"])
        .golden("script");
}

#[test]
fn local_files_are_looked_at_first() {
    fleet()
        .file("plain", "x")
        .run(&["put", "-w", "db1", "missing", "/tmp/"])
        .run(&["put", "-w", "db1", "plain", ""])
        .run(&["get", "-w", "db1", "/etc/motd", "plain"])
        .run(&["get", "-w", "db1", "/etc/motd", "plain/below"])
        .golden("local_files");
}

#[test]
fn only_public_keys_are_copied() {
    let public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHGqM1Fg4Wk0Jj5Tj3vPjTgJq7G6S1nB5WqkUT3c0bnQ me";
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEhidden\n";
    fleet()
        .file("alice.pub", public)
        .secret("id", private)
        .file("leak.pub", private)
        .file("notes", "not a key\n")
        .run(&["copy-id", "--key", "id", "-w", "db1"])
        .run(&["copy-id", "--key", "leak.pub", "-w", "db1"])
        .run(&["copy-id", "--key", "notes", "-w", "db1"])
        .run(&["copy-id", "--key", "missing.pub", "-w", "db1"])
        .run(&["copy-id", "--key", "alice.pub", "-w", "db1"])
        .run(&["copy-id", "-w", "db1"])
        .run(&["copy-id", "--key", "alice", "-w", "db1", "--dry-run"])
        .run(&["copy-id", "--key", "alice.pub", "-w", "db1", "--dry-run", "--format", "json"])
        .run(&["copy-id", "-w", "db1", "--dry-run"])
        .file("id.pub", public)
        .run(&["copy-id", "--key", "id", "-w", "db1"])
        .golden("copy_id_refusals");
}

#[test]
fn a_prompt_needs_a_terminal() {
    let fleet = fleet();
    let output = fleet.output(&["ping", "-A", "-w", "db1"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "fleet: cannot get the password of host \"db1\": cannot ask for the login password of db1: there is no terminal\n\
         hint: give it with --password-from env:NAME, file:PATH or cmd:COMMAND\n"
    );
}

#[test]
fn a_closed_stdout_is_141_and_silent() {
    let fleet = fleet().file("many.toml", "[groups.many]\nhosts = [\"n[1-50000]\"]\n");
    let mut child = fleet
        .command(["hosts", "-i", "many.toml"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(141), ""));
}

#[test]
fn ssh_config_stands_below_the_inventory() {
    let inventory = "[defaults]\nuser = \"ops\"\n[groups.web]\nhosts = [\"web1\"]\nport = 2201\n\
                     [hosts.db1]\naddress = \"10.0.0.5\"\nidentity = []\n[hosts.inner]\n[hosts.direct]\njump = \"none\"\n";
    let config = "Host web1\n  HostName %h.example\n  Port 9\n  User www\n  ForwardAgent yes\n  Ciphers aes256-ctr\n\
                  Host db1\n  HostName other\n  StrictHostKeyChecking yes\n  ConnectTimeout 1m\n  UserKnownHostsFile /kh/%h\n\
                  Host inner direct\n  ProxyJump gate\n\
                  Host only\n  HostName 10.0.0.9\n  User me\n  IdentityFile none\n  HostKeyAlias Alias\n  ServerAliveInterval 30\n\
                  Match exec true\n  User never\n\
                  Host *\n  PubkeyAuthentication no\n  GlobalKnownHostsFile /global\n  UserKnownHostsFile /known\n";
    let more = "CertificateFile /missing-cert\nPreferredAuthentications gssapi-with-mic,keyboard-interactive,publickey\n\
                PubkeyAuthentication no\nCiphers ^aes*-ctr\nMACs -*-etm@openssh.com\nKexAlgorithms sntrup761x25519-sha512,curve25519-*\n\
                HostKeyAlgorithms ssh-ed25519\nPubkeyAcceptedAlgorithms -*nistp*,sk-*\nAddressFamily inet\nBindAddress 127.0.0.1\n\
                ConnectionAttempts 3\nSetEnv A=1 B=two\nRequestTTY force\nLogLevel QUIET\nUserKnownHostsFile /known\n\
                GlobalKnownHostsFile /global\nIdentityFile none\n";
    Fleet::new()
        .file("hosts.toml", inventory)
        .file("config", config)
        .file("bad", "Host a\n  Port x\n")
        .file("more", more)
        .file("none-left", "Host web1\n  Ciphers aes256-ctr\n  MACs umac-64@openssh.com,hmac-md5\n")
        .file("no-way", "PreferredAuthentications hostbased\n")
        .run(&["hosts", "-F", "config", "--explain", "web1", "-p", "2222"])
        .run(&["hosts", "-F", "config", "--explain", "db1,only"])
        .run(&["hosts", "-F", "config", "--explain", "inner"])
        .run(&["hosts", "-F", "config", "-w", "only,root@only:23,web1,direct", "-v"])
        .run(&["ping", "-F", "config", "-w", "inner,web1", "--dry-run"])
        .run(&["hosts", "-F", "none", "-w", "only", "-v"])
        .run(&["hosts", "-F", "bad"])
        .run(&["hosts", "-F", "missing"])
        .run(&["hosts", "-F", "more", "--explain", "web1"])
        .run(&["hosts", "-F", "none-left", "--explain", "web1"])
        .run(&["ping", "-F", "none-left", "-w", "db1,web1"])
        .run(&["ping", "-F", "no-way", "-w", "db1"])
        .run(&["hosts", "--explain", "web1", "-a"])
        .env("FLEET_SSH_CONFIG", "config")
        .env("FLEET_USER", "env")
        .run(&["hosts", "--explain", "direct", "-p", "1"])
        .golden("ssh_config");
}
