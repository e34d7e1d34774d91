//! Against OpenSSH's sshd on loopback.
