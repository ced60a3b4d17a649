"""TLS of one member: its certificates, whom it lets in, and who was refused and why. Knows no HTTP and no Raft."""
