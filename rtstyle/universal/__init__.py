"""Any image as a style: what is measured of it, how it is painted after in code, and its network in closed form."""
