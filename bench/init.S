# The smallest init there is: says that it runs, and ends the machine, or with STAYS sleeps.
#
# Linux, arch/x86/entry/syscalls/syscall_64.tbl; reboot(2), pause(2).

        .globl  _start
_start:
        mov     $1, %eax                # write
        mov     $1, %edi                # to the console, which the kernel has opened for us
        lea     line(%rip), %rsi
        mov     $(line_end - line), %edx
        syscall
#ifdef STAYS
sleep:  mov     $34, %eax               # pause
        syscall
        jmp     sleep
#endif
        mov     $169, %eax              # reboot
        mov     $0xfee1dead, %edi       # LINUX_REBOOT_MAGIC1
        mov     $0x28121969, %esi       # LINUX_REBOOT_MAGIC2
        mov     $0x01234567, %edx       # LINUX_REBOOT_CMD_RESTART: under -no-reboot the VMM's end
        syscall
        hlt                             # never reached; process 1 must not end

line:   .ascii  "banger-bench: init runs\n"
line_end:
        .section .note.GNU-stack, "", @progbits
