"""Files that come from outside or go there: bounded reads, atomic writes, images, and text safe to print.

The bottom layer: every other package may import it, and it imports only the exceptions.
"""
