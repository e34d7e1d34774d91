//! Completions as bash, zsh and fish make them of the scripts that fleet prints.

mod golden {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use crate::Fleet;
    use crate::fleet::BINARY;

    const INVENTORY: &str = "[groups.web]\nhosts = [\"web[1-3]\"]\n[groups.green]\nchildren = [\"web\"]\n[hosts.db1]\n";

    fn fleet() -> Fleet {
        Fleet::new()
            .file("hosts.toml", INVENTORY)
            .file("many.toml", "[groups.rack]\nhosts = [\"node[00001-10000]\", \"gate1\"]\n")
            .file(".ssh/config", "Host only-in-ssh *.example\n  User me\n")
            .file("broken.toml", "[nonsense\n")
    }

    /// Runs a shell's script where `fleet` is on the path and `completions` is a file with its script.
    fn shell(fleet: &Fleet, shell: &str, args: &[&str], script: &str) -> Vec<String> {
        let printed = fleet.output(&["completions", shell]);
        assert!(printed.status.success());
        std::fs::write(fleet.dir().join("completions"), printed.stdout).unwrap();
        let bin = fleet.dir().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        if !bin.join("fleet").exists() {
            std::os::unix::fs::symlink(BINARY, bin.join("fleet")).unwrap();
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let output = Command::new(shell)
            .args(args)
            .arg(script)
            .current_dir(fleet.dir())
            .env_clear()
            .env("HOME", fleet.dir())
            .env("PATH", path)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{script}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }

    /// What bash offers for a line whose words it has broken like this.
    fn bash(fleet: &Fleet, line: &str, words: &[&str]) -> Vec<String> {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
        let script = format!(
            "source ./completions; COMP_LINE='{}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({}); COMP_CWORD={}; \
             _fleet fleet; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            line.replace('\'', "'\\''"),
            quoted.join(" "),
            words.len() - 1
        );
        shell(fleet, "bash", &["--norc", "--noprofile", "-c"], &script)
    }

    fn fish(fleet: &Fleet, line: &str) -> Vec<String> {
        let script = format!("source ./completions; complete -C \"{line}\"");
        shell(fleet, "fish", &["--no-config", "-c"], &script)
    }

    #[test]
    fn bash_completes_verbs_flags_hosts_and_groups() {
        let fleet = fleet();
        assert_eq!(bash(&fleet, "fleet pi", &["fleet", "pi"]), ["ping"]);
        assert_eq!(bash(&fleet, "fleet ping --max", &["fleet", "ping", "--max"]), ["--max-fail"]);
        assert_eq!(bash(&fleet, "fleet exec -w we", &["fleet", "exec", "-w", "we"]), ["web1", "web2", "web3"]);
        assert_eq!(
            bash(&fleet, "fleet exec -w web1,we", &["fleet", "exec", "-w", "web1,we"]),
            ["web1,web1", "web1,web2", "web1,web3"]
        );
        // An `@` breaks words.
        assert_eq!(bash(&fleet, "fleet exec -w @gr", &["fleet", "exec", "-w", "@", "gr"]), ["green"]);
        assert_eq!(bash(&fleet, "fleet exec -w db1,@g", &["fleet", "exec", "-w", "db1,", "@", "g"]), ["green"]);
        assert_eq!(bash(&fleet, "fleet exec -w root@d", &["fleet", "exec", "-w", "root", "@", "d"]), ["db1"]);
        assert_eq!(bash(&fleet, "fleet ping --order=n", &["fleet", "ping", "--order", "=", "n"]), ["name"]);
        assert_eq!(bash(&fleet, "fleet ping -w 'web1,d", &["fleet", "ping", "-w", "'web1,d"]), ["web1,db1"]);
        assert_eq!(bash(&fleet, "fleet ping -g ", &["fleet", "ping", "-g", ""]), ["web", "green"]);
        assert_eq!(bash(&fleet, "fleet ping -x o", &["fleet", "ping", "-x", "o"]), ["only-in-ssh"]);
        assert_eq!(bash(&fleet, "fleet ping -i many.t", &["fleet", "ping", "-i", "many.t"]), ["many.toml"]);
        assert_eq!(
            bash(&fleet, "fleet ping -i many.toml -w g", &["fleet", "ping", "-i", "many.toml", "-w", "g"]),
            ["gate1"]
        );
    }

    #[test]
    fn bash_is_silent_about_what_is_broken_and_not_flooded() {
        let fleet = fleet();
        let words = ["fleet", "ping", "-i", "broken.toml", "-w", "w"];
        assert_eq!(bash(&fleet, "fleet ping -i broken.toml -w w", &words), [""]);
        let fleet = fleet.script("slow", "sleep 20; echo '{\"web\": [\"web1\"]}'");
        let words = ["fleet", "ping", "-i", "slow", "-w", "w"];
        assert_eq!(bash(&fleet, "fleet ping -i slow -w w", &words), [""]);
        let words = ["fleet", "ping", "-i", "many.toml", "-w", "node"];
        assert_eq!(bash(&fleet, "fleet ping -i many.toml -w node", &words), ["node0", "node10000"]);
        let words = ["fleet", "ping", "-i", "many.toml", "-w", "node0999"];
        assert_eq!(bash(&fleet, "fleet ping -i many.toml -w node0999", &words).len(), 10);
    }

    #[test]
    fn fish_completes_verbs_flags_hosts_and_groups() {
        let fleet = fleet();
        assert_eq!(fish(&fleet, "fleet pi"), ["ping"]);
        assert_eq!(fish(&fleet, "fleet ping --max"), ["--max-fail"]);
        assert_eq!(fish(&fleet, "fleet exec -w we"), ["web1", "web2", "web3"]);
        assert_eq!(fish(&fleet, "fleet exec -w web1,we"), ["web1,web1", "web1,web2", "web1,web3"]);
        assert_eq!(fish(&fleet, "fleet exec -w @gr"), ["@green"]);
        assert_eq!(fish(&fleet, "fleet exec -g "), ["web", "green"]);
        assert_eq!(fish(&fleet, "fleet exec -x d"), ["db1"]);
        assert_eq!(fish(&fleet, "fleet ping -i many.t"), ["many.toml"]);
        assert_eq!(fish(&fleet, "fleet ping -i broken.toml -w w"), [""; 0]);
    }

    /// Types a line and a tab into a zsh on a terminal of its own, and returns what then stands on the line.
    fn zsh(fleet: &Fleet, typed: &str, expected: &str) {
        let printed = fleet.output(&["completions", "zsh"]);
        std::fs::write(fleet.dir().join("completions"), printed.stdout).unwrap();
        let bin = fleet.dir().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        if !bin.join("fleet").exists() {
            std::os::unix::fs::symlink(BINARY, bin.join("fleet")).unwrap();
        }
        let socket = fleet.dir().join("zsh");
        let tmux = |args: &[&str]| {
            let output = Command::new("tmux").arg("-S").arg(&socket).args(args).output().unwrap();
            assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        struct Server<'a>(&'a std::path::Path);
        impl Drop for Server<'_> {
            fn drop(&mut self) {
                let _ = Command::new("tmux").arg("-S").arg(self.0).arg("kill-server").output();
            }
        }
        let dir = fleet.dir().to_str().unwrap();
        let rc = "PS1='> '; autoload -Uz compinit; compinit -u -D; source ./completions; setopt nobeep\n";
        std::fs::write(fleet.dir().join(".zshrc"), rc).unwrap();
        let start = format!("export HOME='{dir}' ZDOTDIR='{dir}' PATH='{dir}'/bin:$PATH; exec zsh -i");
        let _server = Server(&socket);
        tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "-c", dir, &start]);
        let wait_for = |what: &str| {
            let since = Instant::now();
            loop {
                let screen = tmux(&["capture-pane", "-p"]);
                if screen.lines().any(|line| line.trim_end() == what) {
                    return;
                }
                assert!(since.elapsed() < Duration::from_secs(30), "no line is {what:?}:\n{screen}");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        wait_for(">");
        tmux(&["send-keys", "-l", typed]);
        wait_for(&format!("> {typed}"));
        tmux(&["send-keys", "Tab"]);
        wait_for(expected);
    }

    #[test]
    fn zsh_completes_hosts_and_groups() {
        let fleet = fleet();
        zsh(&fleet, "fleet exec -w db1,@gr", "> fleet exec -w db1,@green");
        zsh(&fleet, "fleet ping -w w", "> fleet ping -w web");
        zsh(&fleet, "fleet pi", "> fleet ping");
        zsh(&fleet, "fleet ping --max", "> fleet ping --max-fail");
    }
}
