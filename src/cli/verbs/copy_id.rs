use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use fleet::op::CopyId;
use fleet::{AgentUse, ErrorKind, Host, Identity, PublicKey, SshTransport};

use crate::cli::args::CopyId as Args;
use crate::cli::exit::Refusal;
use crate::cli::keys;
use crate::cli::run::Request;
use crate::cli::screen::Screen;

/// The keys of `~/.ssh` that are looked for when neither a flag nor the inventory names one, as logins do.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// A public key, and where its private half is looked for.
struct Chosen {
    key: PublicKey,
    /// The `.pub` file; none of a key that only an agent has.
    path: Option<PathBuf>,
}

/// Installs a public key on each host.
pub(crate) fn run(args: &Args, screen: &Screen) -> Result<ExitCode, Refusal> {
    // Here, not later: a dry run looks at the key too.
    let named = args.key.as_deref().map(named).transpose()?;
    let what = match &named {
        Some(Chosen { key, .. }) => format!("copy-id: {} {}", key.key_type(), key.fingerprint()),
        None => "copy-id: the first public key".to_owned(),
    };
    let request = Request {
        select: &args.select,
        connect: &args.connect,
        run: &args.run,
        output: &args.output,
        timeout: args.timeout.timeout,
        ending: None,
        become_user: None,
        lines: None,
        pattern: None,
        out_dir: None,
        same_output: None,
        retry_op: None,
        what,
    };
    let is_quiet = args.output.quiet;
    request.run_with(
        |transport, hosts| {
            let chosen = named.map_or_else(|| first(transport, hosts), Ok)?;
            let copy = CopyId::new(chosen.key.clone());
            if args.no_proof {
                Ok(copy.without_proof())
            } else {
                provable(copy, &chosen, transport, hosts, screen, is_quiet)
            }
        },
        screen,
    )
}

/// Reads the key that was named: the file, or the `.pub` beside a private key.
fn named(path: &Path) -> Result<Chosen, Refusal> {
    let public = public_path(path);
    if public != path && public.exists() {
        return Ok(Chosen { key: PublicKey::read(&public)?, path: Some(public) });
    }
    let key = PublicKey::read(path).map_err(|error| {
        let is_lonely = public != path && error.kind() == ErrorKind::Usage && error.to_string().contains("private key");
        let refusal = Refusal::from(error);
        let path = path.display();
        if is_lonely { refusal.hint(format!("ssh-keygen -y -f {path} > {path}.pub")) } else { refusal }
    })?;
    Ok(Chosen { key, path: Some(path.to_owned()) })
}

/// Chooses the key as ssh-copy-id does: that of the hosts' first identity, else the first of the usual ones, else the agent's.
fn first(transport: &SshTransport, hosts: &[Arc<Host>]) -> Result<Chosen, Refusal> {
    let none = || {
        Refusal::usage("there is no public key to copy: no identity has one, and no agent has a key")
            .hint("name one with --key, or make one with ssh-keygen")
    };
    let mut chosen: Option<(Chosen, &Host)> = None;
    for host in hosts {
        let one = of_host(transport, host)?.ok_or_else(none)?;
        match &chosen {
            Some((other, first)) if other.key != one.key => {
                let what = format!("{} and {} have different keys", first.name, host.name);
                return Err(Refusal::usage(what).hint("name the one to copy with --key"));
            }
            Some(_) => {}
            None => chosen = Some((one, host)),
        }
    }
    chosen.map(|(chosen, _)| chosen).ok_or_else(none)
}

fn of_host(transport: &SshTransport, host: &Host) -> Result<Option<Chosen>, Refusal> {
    let own = host.auth.identities.iter().filter_map(|identity| match identity {
        Identity::File(path) => Some(public_path(path)),
        _ => None,
    });
    let usual = dirs::home_dir()
        .into_iter()
        .flat_map(|home| DEFAULT_KEYS.map(|name| public_path(&home.join(".ssh").join(name))));
    if let Some(path) = own.chain(usual).find(|path| path.exists()) {
        return Ok(Some(Chosen { key: PublicKey::read(&path)?, path: Some(path) }));
    }
    Ok(transport.agent_keys(host).into_iter().next().map(|key| Chosen { key, path: None }))
}

/// Finds the private half, unlocked, for the login that proves the key.
fn provable(
    copy: CopyId,
    chosen: &Chosen,
    transport: &SshTransport,
    hosts: &[Arc<Host>],
    screen: &Screen,
    is_quiet: bool,
) -> Result<CopyId, Refusal> {
    let has_it = |host: &Host| transport.agent_keys(host).contains(&chosen.key);
    let Some(lonely) = hosts.iter().find(|host| !has_it(host)) else { return Ok(copy) };
    let private = chosen.path.as_deref().and_then(private_path).filter(|path| path.is_file());
    let Some(private) = private else {
        let what = format!(
            "the login to {} with key {} cannot be proved: its private half is neither beside it nor in an agent",
            lonely.name,
            chosen.key.fingerprint()
        );
        return Err(Refusal::usage(what).hint("--no-proof installs the key and does not log in with it"));
    };
    let identity = Identity::File(private);
    let mut by_key: Vec<Arc<Host>> = hosts.iter().filter(|host| !has_it(host)).cloned().collect();
    for host in &mut by_key {
        let host = Arc::make_mut(host);
        host.auth.identities = vec![identity.clone()];
        host.auth.password = None;
        host.auth.answers.clear();
        if let Some(socket) = host.auth.agent.socket() {
            host.auth.agent = AgentUse::OnlyConfigured(socket.to_owned());
        }
    }
    keys::unlock(transport, &mut by_key)?;
    keys::load(transport, &by_key, screen, is_quiet)?;
    let copy = copy.prove_by(identity);
    let passphrase = by_key.into_iter().find_map(|host| host.auth.passphrase.clone());
    Ok(match passphrase {
        Some(passphrase) => copy.passphrase(passphrase),
        None => copy,
    })
}

/// Returns `PATH.pub`, or the path itself where it is one.
fn public_path(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|extension| extension == "pub") {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn private_path(public: &Path) -> Option<PathBuf> {
    public.extension().is_some_and(|extension| extension == "pub").then(|| public.with_extension(""))
}
