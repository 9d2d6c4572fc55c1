"""placeholder"""


def new_plugin() -> None:
    """x"""
