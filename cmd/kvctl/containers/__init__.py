"""The commands for containers that read their configuration as they start; docs/containers.md is their manual.

- `exec.py`, `env.py`, `render.py`, `wait.py`, `register.py`, `lock.py`, `semaphore.py`: one command each.
- `source.py`: what is asked of the cluster and followed there, with the cache behind it; `tree.py`, `cache.py`.
- `variables.py`, `quoting.py`: keys as environment variables, and as text. Pure.
- `template.py`, `resource.py`: Jinja2 templates, and where each one goes. `staged.py`: files that appear at once.
- `child.py`: a command as our child, with signals and statuses. `line.py`, `session.py`: a place in a line of keys.
"""
