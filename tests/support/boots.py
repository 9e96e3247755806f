"""A disk with a boot sector that writes to the serial console."""

# xor ax,ax; mov ds,ax; mov si,text; next: lodsb; test al,al; jz end; mov dx,3f8h; out dx,al; jmp next; end: hlt; jmp end
_CODE = bytes.fromhex("31c08ed8be157cac84c07406baf803eeebf5f4ebfd")
_TEXT = b"the kernel\r\nweb \x1b[1mlogin: \0"
DISK = ((_CODE + _TEXT).ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0")
