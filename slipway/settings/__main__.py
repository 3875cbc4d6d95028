"""`python -m slipway.settings` writes the manual of all options, inventories/example.py."""

from slipway import project
from slipway.settings.manual import render_example

if __name__ == "__main__":
    target = project.root() / "inventories" / "example.py"
    target.write_text(render_example(), encoding="utf-8")
    print(f"wrote {target}")
