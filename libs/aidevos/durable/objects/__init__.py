"""The classes and declarations that an object's author writes, and everything that is derived from them."""
